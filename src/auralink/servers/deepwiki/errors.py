"""What can go wrong between a repository's name and an answer about it."""

from auralink.core.errors import AuralinkError


class RepositoryNotFound(AuralinkError):
    """The name is not one of a repository that this service may read."""

    code = "repository_not_found"
    status = 422
    title = "Repository not found"


class RepositoryUnreachable(AuralinkError):
    """The repository is not here and its clone URL did not give it."""

    code = "repository_unreachable"
    status = 502
    title = "Repository unreachable"


class RepositoryTooLarge(AuralinkError):
    """The repository is larger than this service clones or indexes."""

    code = "repository_too_large"
    status = 422
    title = "Repository too large"


class IndexingFailed(AuralinkError):
    """The repository is here and could not be indexed."""

    code = "indexing_failed"
    status = 500
    title = "Indexing failed"


class TopicNotFound(AuralinkError):
    """The wiki of this repository has no page on that topic."""

    code = "topic_not_found"
    status = 404
    title = "Topic not found"


BY_CODE: dict[str, type[AuralinkError]] = {
    kind.code: kind for kind in (RepositoryNotFound, RepositoryUnreachable, RepositoryTooLarge, IndexingFailed, TopicNotFound)
}
"""The errors that cross the pipe of an indexing process, by their code."""
