"""What the store takes in, and what it refuses to."""

from typing import Any

from finetune_operator.controller.store import DEPARTED, Store
from finetune_operator.controller.stored import collection


def an_object(uid: str, version: int, job: str = "") -> dict[str, Any]:
    """Return an object as the API server sends it."""
    meta: dict[str, Any] = {"uid": uid, "name": f"name-{uid}", "namespace": "team", "resourceVersion": str(version)}
    if job:
        meta["labels"] = {"finetune.dev/job-name": job}
        meta["ownerReferences"] = [{"uid": "other"}, {"uid": f"uid-{job}", "controller": True}]
    return {"metadata": meta}


def test_only_news_is_taken_in():
    """An event that was seen already, or is older, changes nothing."""
    store = Store()

    answers = [store.put("Pod", an_object("p", version)) for version in (5, 5, 4, 6)]

    assert (answers, store.objects["p"].version) == ([True, False, False, True], 6)


def test_versions_are_compared_as_numbers():
    """99 is older than 100, although its text sorts after it."""
    store = Store()
    store.put("Pod", an_object("p", 99))

    assert store.put("Pod", an_object("p", 100)) is True


def test_a_deleted_object_never_comes_back():
    """A late answer to our own write must not bring a ghost."""
    store = Store()
    store.put("Pod", an_object("p", 5))
    store.drop("p")

    assert (store.put("Pod", an_object("p", 9)), store.objects) == (False, {})


def test_a_family_is_found_by_the_name_of_its_job():
    """The job and its children by kind, in the order of their names, and no longer once deleted."""
    store = Store()
    for uid in ("b", "a", "c"):
        store.put("Pod", an_object(uid, 1, job="name-j"))
    store.put("Service", an_object("s", 1, job="name-j"))
    store.put("Pod", an_object("x", 1, job="another"))
    store.put("FineTuneJob", an_object("j", 1))
    store.drop("c")

    assert [stored.uid for stored in store.members("team/name-j", "Pod")] == ["a", "b"]
    assert [stored.uid for stored in store.members("team/name-j", "Service")] == ["s"]
    assert [stored.uid for stored in store.members("team/name-j", "FineTuneJob")] == ["j"]
    assert store.members("team/nobody", "Pod") == ()
    assert store.objects["a"].owner_uid == "uid-name-j"


def test_a_child_whose_label_was_changed_leaves_its_family():
    """Once deleted it would be looked for in vain, in every pass over its former job."""
    store = Store()
    store.put("Pod", an_object("p", 1, job="name-j"))
    store.put("Pod", an_object("p", 2, job="another"))

    assert (store.members("team/name-j", "Pod"), len(store.members("team/another", "Pod"))) == ((), 1)
    store.drop("p")
    assert (store.members("team/name-j", "Pod"), store.members("team/another", "Pod")) == ((), ())


def test_dropping_the_unknown_is_no_news():
    """A DELETED event may arrive for what was never seen."""
    store = Store()
    store.put("Pod", an_object("p", 1))

    assert [store.drop("p"), store.drop("p"), store.drop("q")] == [True, False, False]


def test_deleted_pods_are_remembered_as_they_were_last_seen():
    """The newest ones, of every family, and Pods only."""
    store = Store()
    for number in range(DEPARTED + 1):
        store.put("Pod", an_object(f"p{number}", 1, job="name-j"))
        store.drop(f"p{number}")
    store.put("Pod", an_object("x", 1, job="another"))
    store.put("Service", an_object("s", 1, job="name-j"))
    store.drop("x")
    store.drop("s")
    kept = [stored.uid for stored in store.departed("team/name-j")]

    assert kept == [f"p{number}" for number in range(2, DEPARTED + 1)]
    assert [stored.uid for stored in store.departed("team/another")] == ["x"]

    store.dismiss("p2")
    assert [stored.uid for stored in store.taken("team/name-j")] == kept[1:]


def test_managed_fields_are_not_kept():
    """They are a third of an object and say nothing to us."""
    raw = an_object("p", 1)
    raw["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    store = Store()
    store.put("Pod", raw)

    assert "managedFields" not in store.objects["p"].raw["metadata"]


def test_paths_of_collections():
    """Ours are in our group; pools belong to no namespace."""
    assert [collection("FineTuneJob", "team"), collection("GPUPool"), collection("Pod", "team"), collection("Pod")] == [
        "/apis/finetune.dev/v1alpha1/namespaces/team/finetunejobs",
        "/apis/finetune.dev/v1alpha1/gpupools",
        "/api/v1/namespaces/team/pods",
        "/api/v1/pods",
    ]
