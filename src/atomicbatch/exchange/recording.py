"""Recording: what an app answers to one call, taken down as it comes, until it is a Reply."""

from __future__ import annotations

from atomicbatch.big_bytes import concatenated
from atomicbatch.errors import AtomicBatchError, LimitError, TransactionError
from atomicbatch.exchange.holding import Held
from atomicbatch.model import Headers, Reply
from atomicbatch.problems import TITLES, problem_reply
from atomicbatch.wire.reply import is_writable


class TooLong(Exception):
    """Raised into an app that sends more than it may, to stop it."""


class ReplyBytes:
    """
    The bytes that the replies of one batch may still have.

    Args:
        maximum: For all bodies together.
        held: Counts them, for whoever bounds all batches together.

    Attributes:
        left: How many are left of ``maximum``.
    """

    __slots__ = ("_held", "_maximum", "left")

    def __init__(self, maximum: int, held: Held | None = None) -> None:
        self._maximum = self.left = maximum
        self._held = held

    def take(self, count: int) -> None:
        """
        Take so many.

        Raises:
            LimitError: There are not so many left.
        """
        if count > self.left:
            raise LimitError(
                f"the replies of one batch hold at most {self._maximum} bytes together",
                limit="max_reply_bytes",
                maximum=self._maximum,
            )
        if self._held is not None:
            self._held.take(count)
        self.left -= count


class Recording:
    """
    The answer to one call, as far as the app has given it.

    Args:
        method: The call's.
        bytes_left: What the replies of the batch may still have.

    Attributes:
        status: The response's; 0 before it has started.
        headers: The response's, names in lower case.
        is_complete: The app has sent all of the response.
        size: Bytes of the body so far.
    """

    __slots__ = (
        "_bytes_left",
        "_is_checked",
        "_method",
        "_pieces",
        "_refused",
        "headers",
        "is_complete",
        "size",
        "status",
    )

    def __init__(self, method: str, bytes_left: ReplyBytes) -> None:
        self._method = method
        self._bytes_left = bytes_left
        self._pieces: list[bytes] = []
        self._refused: LimitError | None = None
        self.status = 0
        self.headers: Headers = ()
        self._is_checked = False
        self.is_complete = False
        self.size = 0

    def start(self, status: int, headers: Headers, *, is_checked: bool = False) -> None:
        """
        Take down the head of the response.

        Args:
            status: Its status.
            headers: Its headers, names in lower case.
            is_checked: They are known to be such that a server would send them.
        """
        self.status, self.headers, self._is_checked = status, headers, is_checked

    def take(self, piece: bytes) -> None:
        """
        Take down the next piece of the body.

        Raises:
            TooLong: There are more bytes than a batch may hold.
        """
        if self._method == "HEAD":
            return
        if self._refused is not None:
            raise TooLong from self._refused
        try:
            self._bytes_left.take(len(piece))
        except LimitError as error:
            self._refused = error
            self._pieces.clear()
            raise TooLong from error
        self.size += len(piece)
        self._pieces.append(piece)

    def gather(self) -> None:
        """Put the pieces of the body together; long ones take a while."""
        if len(self._pieces) > 1:
            self._pieces = [concatenated(self._pieces)]

    def check_bounds(self) -> None:
        """
        Refuse a reply that was too long, also where the app has caught :class:`TooLong`.

        Raises:
            LimitError: It was.
        """
        if self._refused is not None:
            raise self._refused

    def reply(self, error: BaseException | None) -> Reply:
        """
        Tell the call's reply, now that the app has returned or raised ``error``.

        Raises:
            AtomicBatchError: There is none.
        """
        if error is not None and isinstance(error, TransactionError):
            raise error
        if self.status == 101:
            slug = "not-batchable"
            return problem_reply(400, slug, TITLES[slug], "the call switches protocols (101)")
        if len(self._pieces) > 1:
            self.gather()
        reply = Reply(self.status, self.headers, self._pieces[0] if self._pieces else b"")
        if self.is_complete and self._is_whole(reply):
            if not (self._is_checked and 200 <= reply.status <= 999) and not is_writable(reply):
                # Found out now, while the batch can still be rolled back.
                raise AtomicBatchError("the call's handler sent an invalid header")
            # An error page is an answer, also where the app raises once more after it.
            if error is None or reply.status >= 400:
                return reply
        if error is not None:
            raise AtomicBatchError("the call's handler raised an exception") from error
        what = "its reply broke off" if self.status else "it gave no reply"
        raise AtomicBatchError(f"the call's handler returned, but {what}")

    def _is_whole(self, reply: Reply) -> bool:
        """Tell whether the body is as long as Content-Length says; servers check that as well."""
        if self._method == "HEAD" or reply.status in (204, 304):
            return True
        length = b"%d" % len(reply.body)
        for name, value in reply.headers:
            if name == b"content-length" and value != length:
                return False
        return True
