"""What every store must do, whatever is behind it. Called by the tests of the stores."""

from finetune_trainer.storage import Store


def assert_claimed_once(store: Store) -> None:
    """Two jobs that claim one place: the second is told, and a claim is replaced only while it is unchanged."""
    answers = (
        store.create_text("claim", "first"),
        store.create_text("claim", "second"),
        store.replace_text("claim", "second", "third"),
        store.replace_text("claim", "first", "third"),
        store.replace_text("none", "first", "third"),
    )

    assert answers == (True, False, False, True, False)
    assert store.read_text("claim") == "third"
