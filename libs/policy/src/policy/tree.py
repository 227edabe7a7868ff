"""The token report as people read it: one line per phase, round and model.

Pure. It shows what the report says and reckons nothing of its own.
"""

from factory.audit.v1 import Amount, ReportLine, TaskReportResponse

from policy.prices import rounded_dollars

# Where a label goes on with which rework it is: "Code implementation (rework 1, after model review)".
REWORK_MARK = " (rework "

SECONDS_PER_MINUTE = 60


def render_tree(report: TaskReportResponse, *, long: bool = False) -> str:
    """The report as a tree; `long` puts cost, time and the reason of choice beside each line."""
    rows = [f'Task: "{_one_line(report.title)}"']
    rows += [f"├── {_line_text(line, long=long)}" for line in report.lines]
    rows.append(f"└── Total: {_amount_text(report.total)}{_beside(_cost_text(report.total)) if long else ''}")
    rows += [f"    note: {_one_line(note)}" for note in report.notes]
    return "\n".join(rows)


def tokens_text(tokens: int) -> str:
    """Tokens for people: "1 token", "2,400 tokens"."""
    return f"{tokens:,} token{'' if tokens == 1 else 's'}"


def _line_text(line: ReportLine, *, long: bool) -> str:
    phase, mark, rest = line.label.partition(REWORK_MARK)
    rework = f", rework {rest.rstrip(')').partition(',')[0]}" if mark else ""
    text = f"{_one_line(line.model_name)}: {_amount_text(line.amount)} ({phase}{rework})"
    if not long:
        return text
    time = _time_text(line.model_time.ToTimedelta().total_seconds())
    return text + _beside(_cost_text(line.amount), time, _one_line(line.reason))


def _beside(*parts: str) -> str:
    return "".join(f" · {part}" for part in parts if part)


def _amount_text(amount: Amount) -> str:
    text = tokens_text(amount.tokens)
    if amount.uncertain_tokens:
        text += f", up to {amount.uncertain_tokens:,} more"
    if amount.unknown_calls:
        text += f", {amount.unknown_calls} call{'s' if amount.unknown_calls > 1 else ''} unknown"
    return text


def _cost_text(amount: Amount) -> str:
    parts = []
    if amount.tokens > amount.unpriced_tokens or not amount.tokens:
        parts.append(rounded_dollars(int(amount.cost_pico_usd or 0)))
    if int(amount.uncertain_cost_pico_usd or 0):
        parts.append(f"up to {rounded_dollars(int(amount.uncertain_cost_pico_usd))} more")
    if amount.unpriced_tokens:
        parts.append(f"{tokens_text(amount.unpriced_tokens)} unpriced")
    return ", ".join(parts)


def _time_text(seconds: float) -> str:
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), SECONDS_PER_MINUTE)
    return f"{minutes} min {rest:02d} s"


def _one_line(text: str) -> str:
    """Text of others must not draw lines of its own, nor move the cursor."""
    return "".join(char if char.isprintable() else " " for char in text)
