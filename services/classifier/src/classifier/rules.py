"""The rules as data: which words speak for which type of task, and how loudly.

Each rule counts once per part of the text, however often its words occur. Patterns name words, never free text, so a
match may be quoted in a fact. Change a rule, and change VERSION: facts say which rules decided.
"""

import re
from dataclasses import dataclass

from factory.task.v1 import TaskType

VERSION = "rules-1"

ARCHITECTURE = TaskType.TASK_TYPE_ARCHITECTURE
LOGIC = TaskType.TASK_TYPE_LOGIC
REFACTORING = TaskType.TASK_TYPE_REFACTORING
UI = TaskType.TASK_TYPE_UI
API = TaskType.TASK_TYPE_API
TESTS = TaskType.TASK_TYPE_TESTS
DOCUMENTATION = TaskType.TASK_TYPE_DOCUMENTATION

# In the order of the routing table.
TYPES = (ARCHITECTURE, LOGIC, REFACTORING, UI, API, TESTS, DOCUMENTATION)

# Where no word says anything, logic is the least wrong: its route has one author and no special skill.
PRIOR: dict[TaskType, float] = {LOGIC: 0.6}


@dataclass(frozen=True, slots=True)
class Rule:
    type: TaskType
    weight: float
    words: re.Pattern[str]


def _starts(type: TaskType, weight: float, words: str) -> Rule:
    """The task's first word: what is asked to be done."""
    return Rule(
        type, weight, re.compile(rf"^(?:please |let'?s |we should |we need to |i want to )?(?:{words})\b", re.I)
    )


def _holds(type: TaskType, weight: float, words: str) -> Rule:
    return Rule(type, weight, re.compile(rf"(?<![\w-])(?:{words})(?!\w)", re.I))


RULES: tuple[Rule, ...] = (
    # Conventional commits say it outright.
    Rule(DOCUMENTATION, 6, re.compile(r"^docs?(?:\([\w./-]*\))?!?:", re.I)),
    Rule(TESTS, 6, re.compile(r"^tests?(?:\([\w./-]*\))?!?:", re.I)),
    Rule(REFACTORING, 6, re.compile(r"^(?:refactor|cleanup)(?:\([\w./-]*\))?!?:", re.I)),
    Rule(LOGIC, 2, re.compile(r"^perf(?:\([\w./-]*\))?!?:", re.I)),
    # Architecture: what is to be thought about before it is built.
    _starts(ARCHITECTURE, 4, r"design(?:ing)?|architect|rfc|adr|propos(?:e|al)|plan|evaluate|specify"),
    _starts(ARCHITECTURE, 2, r"add (?:a )?design doc\w*|choose|decide"),
    _holds(ARCHITECTURE, 3.5, r"architectur\w*|design doc(?:ument)?s?|high[- ]level design|system design|rfcs?|adrs?"),
    _holds(
        ARCHITECTURE, 2.5, r"(?:message|log|key|file|wire) format|protocol|monorepo|scalab\w+|distributed|consensus"
    ),
    _holds(ARCHITECTURE, 2, r"microservices?|event[- ]sourc\w+|event[- ]driven|raft|replicat\w+|shard\w*|versioning"),
    _holds(ARCHITECTURE, 2, r"plug-?in (?:system|architecture)|infrastructure|abstractions?|subsystem|circuit breaker"),
    _holds(ARCHITECTURE, 1.5, r"design|strategy|roadmap|ordering|persistence|trade-?offs?|blueprint|data model"),
    _holds(ARCHITECTURE, 2, r"we propose|proposes?|proposed|proposal|this (?:rfc|document|adr)|at present|motivation"),
    _holds(ARCHITECTURE, 1.2, r"shortcomings|applications?|components?|across|ecosystem|clients|networks?|support for"),
    # Refactoring: the same behaviour in other words.
    _starts(REFACTORING, 5, r"refactor\w*|clean(?:ing)?[- ]?up|renam(?:e|ed|ing)|dedupe|deduplicate|tidy|restructure"),
    _starts(REFACTORING, 4, r"simplif\w+|extract(?:ed|ing)?|modulari[sz]e|decouple|consolidate|reorgani[sz]e|inline"),
    _starts(REFACTORING, 3, r"split|separat(?:e|ing)|combine|merge|move|convert|unify|migrate|replac(?:e|ed|ing)"),
    _starts(REFACTORING, 1.5, r"remov(?:e|ed|ing)|drop|delete|make|generali[sz]e"),
    _holds(REFACTORING, 3.5, r"refactor\w*|cleanup|clean up|code smells?|technical debt|dead code|without changing"),
    _holds(REFACTORING, 2, r"unused|dead|deprecated|duplicat(?:ion|ed code)|duplicate checks?|redundant|boilerplate"),
    _holds(REFACTORING, 1.5, r"into (?:its own |a |an )?(?:\w+ )?(?:modules?|packages?|classes|struct|enum)|private"),
    _holds(REFACTORING, 1.5, r"readab\w+|maintainab\w+|typings?|builder pattern|naming|consistent names"),
    # UI: what people see and touch.
    _holds(
        UI, 3, r"ui|ux|frontend|front-end|css|stylesheet|tailwind|responsive|dark mode|tool-?tips?|modals?|wireframe"
    ),
    _holds(
        UI, 2.5, r"buttons?|icons?|tool-?bars?|side-?bars?|nav-?bars?|drop-?downs?|menus?|dialogs?|colou?rs?|themes?"
    ),
    _holds(
        UI, 2, r"(?:login |sign-?up |contact |\w+[- ])?forms?|pages?|screens?|layouts?|styling|styles?|fonts?|tints?"
    ),
    _holds(UI, 2, r"slides?|sliders?|tabs?|cards?|widgets?|thumbnails?|spinners?|progress bars?|checkbox\w*|avatars?"),
    _holds(UI, 2, r"mobile|touch|hover|clicks?|clicking|drag\w*|scroll\w*|animations?|accessib\w+|a11y|aria"),
    _holds(UI, 1.5, r"components?|headers?|footers?|labels?|editors?|images?|background|titles?|panels?"),
    _holds(UI, 1.5, r"react|vue|svelte|angular|jsx|html|storybook|view|display\w*|placeholder|loading|submit|progress"),
    # API: what other programs call.
    Rule(API, 3.5, re.compile(r"\b(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) (?=/|\{)")),
    _holds(API, 3.5, r"(?:end-?points?)|rest(?:ful)? api|openapi|swagger"),
    _holds(API, 2.5, r"apis?|routes?|webhooks?|graphql|grpc|mutations?|health-?checks?|status codes?|json response"),
    _holds(API, 2, r"rest|http|rpc|pagination|paginated?|cors|middleware|rate limit\w*|requests?|responses?"),
    _holds(
        API,
        2,
        r"authenticat\w+|authoriz\w+|oauth2?|jwts?|openid|sso|api keys?|bearer|auth",
    ),
    _holds(API, 2, r"(?:log-?in|sign-?up)(?! (?:form|page|screen|button|dialog))"),
    _holds(API, 1, r"tokens?|sessions?|controllers?|handlers?|servers?|v1|v2|404|401|403|payloads?|schema|feeds?"),
    # Tests: evidence.
    _starts(
        TESTS, 3, r"test|cover|(?:write|add|create|generate|extend|fix|improve|increase)\b.{0,40}\b(?:tests?|coverage)"
    ),
    _holds(TESTS, 3, r"tests?|unit-?tests?|e2e|test cases?|test suites?|coverage|flaky|pytest|jest|playwright|cypress"),
    _holds(TESTS, 1.5, r"testing|snapshots?|fixtures?|regression tests?|assertions?|mocks?|ci"),
    # Documentation: what people read.
    _starts(DOCUMENTATION, 4, r"document(?:ed|ing)?|describe|explain|clarify|emphasi[sz]e|proofread"),
    _starts(DOCUMENTATION, 2, r"write (?:a |an |the )?(?:guide|tutorial|manual|article|page)"),
    _holds(
        DOCUMENTATION, 3.5, r"docs?|documentation|read-?me(?:\.md)?|change-?log|docstrings?|tutorials?|\w+\.(?:md|rst)"
    ),
    _holds(
        DOCUMENTATION, 2.5, r"guides?|typos?|wording|manual|faq|how-?to|release notes|contributing|glossary|samples?"
    ),
    _holds(
        DOCUMENTATION, 1.5, r"(?:dead |broken |stray )?links?|instructions|steps|sections?|references?|descriptions?"
    ),
    # Logic: what is computed, and what goes wrong in it.
    _starts(LOGIC, 2, r"comput(?:e|ing)|calculat\w+|pars(?:e|ing)|sort|optimi[sz]e|handle|prevent|parallelize|detect"),
    _starts(LOGIC, 1.5, r"fix(?:ed|es|ing)?|resolve|implement|avoid|ensure|always|never|do not|don'?t|wait|improve"),
    _holds(
        LOGIC, 2.5, r"algorithms?|functions?|comput\w+|calculat\w+|median|off by (?:one|an)|race conditions?|deadlocks?"
    ),
    _holds(
        LOGIC, 2, r"bugs?|crash\w*|exceptions?|errors?|incorrect\w*|wrong\w*|regressions?|leaks?|overflow|corrupt\w*"
    ),
    _holds(LOGIC, 2, r"performance|faster|slow|concurren\w+|async\w*|threads?|cache|caching|batch\w*|queue|iterators?"),
    _holds(LOGIC, 1.5, r"logic|retr(?:y|ies)|time-?outs?|fall-?back|dates?|duplicat(?:e|es|ed)|null|none|edge cases?"),
    _holds(LOGIC, 1.5, r"validat\w+|filter\w*|scheduler?|rounding|conversion|compare|comparisons?|parser?|recovery"),
)
