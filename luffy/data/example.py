"""What one row of any source says, before it is filtered and merged."""

from __future__ import annotations

from dataclasses import dataclass

from luffy.traces import Trace

Chat = tuple[dict[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt, its gold answer, and the traces that a source gives for it.

    Attributes:
        prompt: messages of role and content.
        gold: the gold answer as text; empty where the source has none.
        no_gold: what the source has instead of a gold answer.
        traces: in the source's order; texts may be empty.
        data_source: name of the data set.
        ability: kind of task.
    """

    prompt: Chat
    gold: str
    traces: tuple[Trace, ...]
    data_source: str
    ability: str
    no_gold: str = ""

    @property
    def question(self) -> str:
        """The text of all messages but the system's: what makes two prompts the same problem."""
        return "\n".join(message["content"] for message in self.prompt if message["role"] != "system")
