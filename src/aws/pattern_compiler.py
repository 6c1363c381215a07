"""Compiles a service model's regular expressions into programs for aws/pattern.h.

AWS's patterns match the whole value. What a linear-time automaton cannot do is refused, with one exception that the
models use: a negative look-ahead for a literal at the start, '^(?!aws:)...', which becomes `forbidden_prefix`.
"""
import re
import re._constants as sre
import re._parser as parser

HIGHEST = 0x10FFFF
# A bounded repetition beyond this many becomes unbounded: the shape's own length constraint bounds it already.
REPEAT_MAX = 64
STEPS_MAX = 4000

WORD = [(48, 57), (65, 90), (95, 95), (97, 122)]
DIGIT = [(48, 57)]
SPACE = [(9, 13), (32, 32)]
# Unicode's categories: exactly in ASCII, anything beyond it. Too generous, never too strict.
BEYOND = r"\x80-\U0010FFFF"
PROPERTIES = {"L": "A-Za-z" + BEYOND, "N": "0-9" + BEYOND, "Z": " " + BEYOND, "M": BEYOND,
              "S": r"$+<=>^`|~" + BEYOND, "P": r"!\"#%&'()*,\-./:;?@\[\\\]_{}" + BEYOND}
# What lies beyond the basic plane, as Java's expressions in the models spell it.
SURROGATES = r"\uD800\uDC00-\uDBFF\uDFFF"


class Unsupported(Exception):
    """The pattern needs more than an automaton."""


def merged(ranges):
    out = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out


def complement(ranges):
    out, at = [], 0
    for first, last in merged(ranges):
        if first > at:
            out.append((at, first - 1))
        at = last + 1
    if at <= HIGHEST:
        out.append((at, HIGHEST))
    return out


CATEGORIES = {
    sre.CATEGORY_WORD: WORD, sre.CATEGORY_NOT_WORD: complement(WORD),
    sre.CATEGORY_DIGIT: DIGIT, sre.CATEGORY_NOT_DIGIT: complement(DIGIT),
    sre.CATEGORY_SPACE: SPACE, sre.CATEGORY_NOT_SPACE: complement(SPACE),
}


class Program:
    """steps: (op, a, b), where op is 'class' (a: first range, b: count), 'split' (a, b: targets), 'jump' or 'match'."""

    def __init__(self, pattern):
        self.text = pattern
        self.forbidden_prefix = ""
        self.steps = []
        self.ranges = []
        self._classes = {}
        source = pattern
        ahead = re.match(r"\^\(\?!([A-Za-z:]+)\)", source)
        if ahead:
            self.forbidden_prefix = ahead.group(1)
            source = source[ahead.end():]
        source = source.replace(SURROGATES, r"\U00010000-\U0010FFFF")
        source = re.sub(r"\\p\{(\w)\}", lambda m: PROPERTIES[m.group(1)], source)
        self._sequence(parser.parse(source))
        self._emit("match")
        if len(self.steps) > STEPS_MAX:
            raise Unsupported(f"{len(self.steps)} steps")

    def _emit(self, op, a=0, b=0):
        self.steps.append([op, a, b])
        return len(self.steps) - 1

    def _class(self, ranges):
        key = tuple(merged(ranges))
        if key not in self._classes:
            self._classes[key] = len(self.ranges)
            self.ranges += key
        self._emit("class", self._classes[key], len(key))

    def _set(self, items):
        ranges, negated = [], False
        for op, value in items:
            if op is sre.NEGATE:
                negated = True
            elif op is sre.LITERAL:
                ranges.append((value, value))
            elif op is sre.RANGE:
                ranges.append(value)
            elif op is sre.CATEGORY:
                ranges += CATEGORIES[value]
            else:
                raise Unsupported(str(op))
        self._class(complement(ranges) if negated else ranges)

    def _sequence(self, items):
        for op, value in items:
            self._one(op, value)

    def _one(self, op, value):
        if op is sre.LITERAL:
            self._class([(value, value)])
        elif op is sre.NOT_LITERAL:
            self._class(complement([(value, value)]))
        elif op is sre.ANY:
            self._class([(0, HIGHEST)])  # '.' takes line breaks: App Runner's variables (pattern '.*') may hold them
        elif op is sre.IN:
            self._set(value)
        elif op is sre.SUBPATTERN:
            self._sequence(value[3])
        elif op is sre.BRANCH:
            self._branch(value[1])
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            self._repeat(*value)
        elif op is sre.AT and value in (sre.AT_BEGINNING, sre.AT_END, sre.AT_BEGINNING_STRING, sre.AT_END_STRING):
            pass  # the whole value is matched anyway
        else:
            raise Unsupported(str(op))

    def _branch(self, branches):
        exits = []
        for branch in branches[:-1]:
            split = self._emit("split")
            self.steps[split][1] = len(self.steps)
            self._sequence(branch)
            exits.append(self._emit("jump"))
            self.steps[split][2] = len(self.steps)
        self._sequence(branches[-1])
        for leave in exits:
            self.steps[leave][1] = len(self.steps)

    def _repeat(self, least, most, items):
        for _ in range(least):
            self._sequence(items)
        if most is sre.MAXREPEAT or most > REPEAT_MAX:
            split = self._emit("split")
            self.steps[split][1] = len(self.steps)
            self._sequence(items)
            self._emit("jump", split)
            self.steps[split][2] = len(self.steps)
            return
        splits = []
        for _ in range(most - least):
            split = self._emit("split")
            self.steps[split][1] = len(self.steps)
            splits.append(split)
            self._sequence(items)
        for split in splits:
            self.steps[split][2] = len(self.steps)
