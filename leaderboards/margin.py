"""How much worse is still good enough, and with which chance of error."""

from __future__ import annotations

from dataclasses import dataclass

from rdvla_bench.errors import UsageError


@dataclass(frozen=True)
class Margin:
    """How much worse is still good enough."""

    value: float  # > 0, of the success rate or of the average chain length
    n_instructions: int = 1  # an episode's; above 1 it is a chain, and its length is compared

    @property
    def is_length(self) -> bool:
        """Return whether chain lengths are compared, not success rates."""
        return self.n_instructions > 1

    def show(self, difference: float) -> str:
        """Return ``-0.3 pp``, or ``-0.03`` for a chain length."""
        return f"{difference:+.2f}" if self.is_length else f"{100 * difference:+.1f} pp"

    def show_level(self, level: float) -> str:
        """Return ``92.4 %``, or ``3.12``."""
        return f"{level:.2f}" if self.is_length else f"{100 * level:.1f} %"

    def show_interval(self, low: float, high: float) -> str:
        """Return ``[-1.4, +0.8] pp``."""
        return f"[{low:+.2f}, {high:+.2f}]" if self.is_length else f"[{100 * low:+.1f}, {100 * high:+.1f}] pp"

    @property
    def bound(self) -> str:
        """Return the margin as the difference it is, unrounded: ``-0.25 pp``, ``-0.1``."""
        return f"{-self.value:.10g}" if self.is_length else f"{-100 * self.value:.10g} pp"

    @property
    def what(self) -> str:
        """Return the name of what is compared."""
        return "average chain length" if self.is_length else "success rate"


def parse_margin(text: str, n_instructions: int) -> Margin:
    """Read ``"2pp"``, ``"2%"`` or ``"0.02"``; for chains a plain number of instructions, ``"0.1"``.

    Raises:
        UsageError: no number, or one that is out of range.
    """
    is_length = n_instructions > 1
    bare = text.strip().lower()
    number = bare.removesuffix("pp").removesuffix("%").strip()
    is_share = number != bare
    allowed = (
        f"expected a number of instructions above 0 and below {n_instructions}, such as 0.1"
        if is_length
        else 'expected a share of episodes above 0 and below 1, such as "2pp", "2%" or 0.02'
    )
    try:
        value = float(number) / (100 if is_share else 1)
    except ValueError as error:
        raise UsageError(f"--margin {text}: {allowed}") from error
    if is_length and is_share:
        raise UsageError(f"--margin {text}: these episodes are chains, whose measure is their length; {allowed}")
    if not 0 < value < (n_instructions if is_length else 1):
        meant = f'. Did you mean "{number}pp"?' if not is_length and not is_share and 1 <= value < 100 else ""
        raise UsageError(f"--margin {text}: {allowed}{meant}")
    return Margin(value, n_instructions)


def check_alpha(alpha: float) -> None:
    """Refuse what is no chance of error.

    Raises:
        UsageError.
    """
    if not 0 < alpha < 0.5:
        raise UsageError(f"--alpha {alpha:g}: expected a chance of error above 0 and below 0.5, such as 0.05")
