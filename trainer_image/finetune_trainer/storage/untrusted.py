"""A server whose certificate nobody here knows: libraries say only that they cannot connect. Called by hub, bucket and web."""

MARK = "CERTIFICATE_VERIFY_FAILED"
"""OpenSSL's word, which every library keeps somewhere in what it raises."""

REMEDY = (
    "its certificate is not trusted: name the certificates of your authority in caBundle of the GPUPool, "
    "or in pods.caBundle of the chart"
)


def or_untrusted(error: BaseException, words: str) -> str:
    """Return the words about an error, or the remedy where it is a certificate that is not trusted."""
    seen: BaseException | None = error
    while seen is not None:
        if MARK in str(seen):
            return REMEDY
        seen = seen.__cause__ or seen.__context__
    return words
