#!/usr/bin/python3
"""Generates the C++ of the AWS services that models/services.json lists, from botocore's service models.

    generate.py --models models/ --out build/generated/aws            writes SERVICE/*.h and SERVICE/*.cc
    generate.py --models models/ --out build/generated/aws --list     prints the files it would write, one a line
    generate.py --models models/ --out build/generated/aws --inputs   prints the files it reads, one a line

What it writes, for each service (src/aws/README.md has the tour):
    types.h        a struct for each structure; required members plain, others std::optional
    errors.h       a factory for each error shape
    handler.h      class Handler, a virtual for each operation; the default says that it is not built
    codec.h        private: what the following share
    constraints.cc, read_N.cc, write_N.cc, operations_N.cc, service.cc
A file is only touched when its content changes. The same inputs give the same bytes.
"""
import argparse
import gzip
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from pattern_compiler import Program, Unsupported  # noqa: E402

DATA = pathlib.Path("/usr/lib/python3/dist-packages/botocore/data")
FUNCTIONS_PER_FILE = 60   # keeps each read_N.cc and write_N.cc well under 20 s of compiler
OPERATIONS_PER_FILE = 13  # likewise operations_N.cc, where each is two coroutines

SCALARS = {
    "string": "std::string", "character": "std::string", "blob": "std::string", "integer": "int", "long": "int64_t",
    "float": "double", "double": "double", "boolean": "bool", "timestamp": "Instant",
}
# The method of In and Out that reads and writes a scalar.
VERBS = {
    "string": "text", "character": "text", "blob": "blob", "integer": "integer", "long": "integer",
    "float": "number", "double": "number", "boolean": "boolean", "timestamp": "time",
}
KEYWORDS = {
    "and", "auto", "bool", "break", "case", "class", "const", "continue", "default", "delete", "do", "double", "else",
    "enum", "export", "false", "float", "for", "if", "int", "long", "namespace", "new", "not", "operator", "or",
    "private", "protected", "public", "register", "return", "short", "static", "struct", "switch", "template", "this",
    "throw", "true", "try", "typename", "union", "unsigned", "using", "virtual", "void", "while",
}


def fail(message):
    sys.exit(f"generate.py: {message}")


def model_path(name):
    folder = DATA / name
    for file in ("service-2.json", "service-2.json.gz"):
        if (folder / file).exists():
            return folder / file
    fail(f"no service model in {folder}: install python3-botocore")


def load(path):
    raw = path.read_bytes()
    return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)


def overlay(base, over):
    """`over` laid on `base`: objects member by member, null removes, anything else replaces."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    out = dict(base)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = overlay(out[key], value) if key in out else value
    return out


def snake(name):
    """EnableWWWSubdomain -> enable_www_subdomain, VpcDNSTargets -> vpc_dns_targets."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    return name + "_" if name in KEYWORDS else name


def quoted(text):
    """A C++ string literal. Bytes beyond ASCII as octal, which unlike \\x ends by itself."""
    out = []
    for byte in text.encode():
        char = chr(byte)
        if char in '"\\':
            out.append("\\" + char)
        elif 32 <= byte < 127:
            out.append(char)
        else:
            out.append(f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


class Service:
    def __init__(self, name, entry, models):
        self.name = name
        self.entry = entry
        self.inputs = [model_path(entry["model"])]
        model = load(self.inputs[0])
        over = models / f"{name}.json"
        if over.exists():
            self.inputs.append(over)
            model = overlay(model, load(over))
        self.meta = model["metadata"]
        self.shapes = model["shapes"]
        self.protocol = self.meta["protocol"]
        if self.protocol not in ("json", "query"):
            fail(f"{name}: no codec for the protocol {self.protocol} yet")
        self.operations = {}
        for operation in sorted(entry["operations"]):
            if operation not in model["operations"]:
                fail(f"{name}: the model has no operation {operation}")
            self.operations[operation] = model["operations"][operation]
        self.read = self._reachable("input")
        self.written = self._reachable("output")
        self.errors = sorted(
            {e["shape"] for o in self.operations.values() for e in o.get("errors", [])} |
            {e for e in (entry["validation_error"], entry["internal_error"]) if e in self.shapes})

    def _reachable(self, side):
        """Shape names under the operations' input or output, contained before container."""
        order, done, open_ = [], set(), set()

        def visit(name):
            if name in done:
                return
            if name in open_:
                fail(f"{self.name}: the shape {name} contains itself, which the generator does not do yet")
            open_.add(name)
            for child in self._children(name):
                visit(child)
            open_.discard(name)
            done.add(name)
            order.append(name)

        for operation in self.operations.values():
            if side in operation:
                visit(operation[side]["shape"])
        return order

    def _children(self, name):
        shape = self.shapes[name]
        if shape["type"] == "structure":
            if shape.get("document"):
                fail(f"{self.name}: {name} is a free document, which the generator does not do yet")
            return [m["shape"] for m in shape.get("members", {}).values()]
        if shape["type"] == "list":
            return [shape["member"]["shape"]]
        if shape["type"] == "map":
            return [shape["key"]["shape"], shape["value"]["shape"]]
        if shape["type"] not in SCALARS:
            fail(f"{self.name}: {name} has the unknown type {shape['type']}")
        return []

    def kind(self, name):
        return self.shapes[name]["type"]

    def cpp(self, name):
        shape = self.shapes[name]
        if shape["type"] == "structure":
            return name
        if shape["type"] == "list":
            return f"std::vector<{self.cpp(shape['member']['shape'])}>"
        if shape["type"] == "map":
            return f"std::map<std::string, {self.cpp(shape['value']['shape'])}>"
        return SCALARS[shape["type"]]

    def wire(self, member, ref):
        """A structure member's name on the wire."""
        return ref.get("locationName", member) if self.protocol == "query" else member

    def item_name(self, shape):
        """What a list's items are called in Query and XML; empty: flattened."""
        if shape.get("flattened"):
            return ""
        return shape["member"].get("locationName", "member")

    def structures(self):
        seen = dict.fromkeys(self.read + self.written)
        return [n for n in seen if self.kind(n) == "structure"]

    def method(self, operation):
        """(result type, parameter list, argument list) of the operation's virtual."""
        spec = self.operations[operation]
        output = spec["output"]["shape"] if "output" in spec else "void"
        request = spec["input"]["shape"] if "input" in spec else None
        return f"Async<Result<{output}>>", request

    # ---- the files ----

    def files(self):
        return {
            "types.h": self.types_h(), "errors.h": self.errors_h(), "handler.h": self.handler_h(),
            "codec.h": self.codec_h(), "constraints.cc": self.constraints_cc(),
            **self.split("read", self.readers()), **self.split("write", self.writers()), **self.operation_files(),
            "service.cc": self.service_cc(),
        }

    def head(self, about):
        return (f"// {about}\n// Generated by src/aws/generate.py from the service model {self.entry['model']} and "
                f"models/. Do not edit.\n")

    def inside(self, body):
        return f"namespace hob::aws::{self.name} {{\n\n{body}\n}}  // namespace hob::aws::{self.name}\n"

    def types_h(self):
        out = []
        for name in self.structures():
            shape = self.shapes[name]
            required = shape.get("required", [])
            out.append(f"struct {name} {{")
            for member, ref in shape.get("members", {}).items():
                kind = self.cpp(ref["shape"])
                if member not in required:
                    kind = f"std::optional<{kind}>"
                out.append(f"  {kind} {snake(member)}{{}};")
            out.append(f"  bool operator==(const {name}&) const = default;\n}};\n")
        return (self.head(f"The structures of {self.meta['serviceFullName']}'s operations.") +
                "#pragma once\n\n#include <cstdint>\n#include <map>\n#include <optional>\n#include <string>\n"
                "#include <vector>\n\n#include \"base/time.h\"\n\n" + self.inside("\n".join(out)))

    def error_code(self, name):
        shape = self.shapes[name]
        if shape.get("fault") or shape.get("error", {}).get("httpStatusCode", 400) >= 500:
            return "kInternal"
        for needle, code in (("NotFound", "kNotFound"), ("AlreadyExists", "kExists"), ("Exists", "kExists"),
                             ("AlreadyAssociated", "kExists"), ("Limit", "kLimit"), ("Quota", "kLimit"),
                             ("TooMany", "kLimit"), ("State", "kConflict"), ("InUse", "kConflict"),
                             ("NotEmpty", "kConflict"), ("Aborted", "kConflict"), ("Denied", "kDenied")):
            if needle in name:
                return code
        return "kInvalid"

    def errors_h(self):
        out = []
        for name in self.errors:
            out.append(f"inline std::unexpected<Error> {snake(name)}(std::string message) {{\n"
                       f"  return fail(Error{{.code = Code::{self.error_code(name)}, .message = std::move(message), "
                       f".aws_code = {quoted(name)}}});\n}}")
        return (self.head(f"The errors of {self.meta['serviceFullName']}: return one from a handler.") +
                "#pragma once\n\n#include <string>\n#include <utility>\n\n#include \"base/result.h\"\n\n" +
                self.inside("\n".join(out) + "\n"))

    def handler_h(self):
        out = []
        for operation in self.operations:
            result, request = self.method(operation)
            parameters = f"{request} request, Caller caller" if request else "Caller caller"
            out.append(f"  virtual {result} {snake(operation)}({parameters});")
        body = ("// Override what is built; the rest answers that it is not.\nclass Handler {\n public:\n"
                "  virtual ~Handler() = default;\n" + "\n".join(out) + "\n};\n\n"
                "// The service over a handler, which must outlive it.\n"
                "std::unique_ptr<aws::Service> make_service(Handler& handler);\n")
        return (self.head(f"What implements {self.meta['serviceFullName']}.") +
                f"#pragma once\n\n#include <memory>\n\n#include \"aws/{self.name}/errors.h\"\n"
                f"#include \"aws/{self.name}/types.h\"\n#include \"aws/service.h\"\n\n" + self.inside(body))

    def operation_files(self):
        files, names = {}, list(self.operations)
        for at in range(0, len(names), OPERATIONS_PER_FILE):
            body = "\n".join(self.operation_cc(name) for name in names[at:at + OPERATIONS_PER_FILE])
            files[f"operations_{at // OPERATIONS_PER_FILE + 1}.cc"] = (
                self.head("For each operation, the answer of a handler that does not build it, and its route.") +
                f"#include <utility>\n\n#include \"aws/{self.name}/codec.h\"\n"
                f"#include \"aws/{self.name}/handler.h\"\n#include \"aws/dispatch.h\"\n\n" + self.inside(body))
        return files

    def operation_cc(self, operation):
        result, request = self.method(operation)
        wrapper = quoted(self.operations[operation].get("output", {}).get("resultWrapper", ""))
        parameters = f"{request}, Caller" if request else "Caller"
        name = snake(operation)
        return (f"{result} Handler::{name}({parameters}) {{\n"
                f"  co_return not_built({quoted(self.name)}, {quoted(operation)});\n}}\n"
                f"{self.route(operation)} {{\n"
                f"  return serve<In, Out>(handler, &Handler::{name}, kModel, {wrapper}, std::move(call), "
                f"std::move(caller));\n}}\n")

    def route(self, operation):
        return f"Async<Result<std::string>> route_{snake(operation)}(Handler& handler, Call call, Caller caller)"

    # ---- constraints ----

    def constant(self, name):
        return "k" + name[0].upper() + name[1:]

    def constrained(self, name):
        """Whether a scalar shape has a constraint object."""
        shape = self.shapes[name]
        verb = VERBS[shape["type"]]
        if verb == "text":
            return any(k in shape for k in ("min", "max", "pattern", "enum", "sensitive"))
        return verb in ("integer", "number", "blob") and any(k in shape for k in ("min", "max"))

    def constraint_names(self):
        return [n for n in self.read if self.kind(n) in SCALARS and self.constrained(n)]

    def constraint_type(self, name):
        return "TextConstraint" if VERBS[self.kind(name)] in ("text", "blob") else "NumberConstraint"

    def constraints_cc(self):
        out, patterns = [], {}
        for name in self.constraint_names():
            shape = self.shapes[name]
            fields = []
            if self.constraint_type(name) == "TextConstraint":
                for key, field in (("min", "length_min"), ("max", "length_max")):
                    if key in shape:
                        fields.append(f".{field} = {int(shape[key])}")
                if shape.get("pattern", ".*") != ".*":
                    fields.append(f".pattern = &{self.pattern(shape['pattern'], patterns, out, name)}")
                if "enum" in shape:
                    words = ", ".join(quoted(w) for w in shape["enum"])
                    out.append(f"constexpr std::string_view {self.constant(name)}Words[] = {{{words}}};")
                    fields.append(f".words = {self.constant(name)}Words")
                if shape.get("sensitive"):
                    fields.append(".sensitive = true")
            else:
                fields = [f".{key} = {shape[key]}" for key in ("min", "max") if key in shape]
            out.append(f"const {self.constraint_type(name)} {self.constant(name)}{{{', '.join(fields)}}};")
        return (self.head("What the model demands of input.") +
                f"#include \"aws/{self.name}/codec.h\"\n\n" + self.inside("\n".join(out) + "\n"))

    def pattern(self, text, patterns, out, shape):
        """The name of the pattern's program, written to `out` at its first use."""
        if text in patterns:
            return patterns[text]
        try:
            program = Program(text)
        except (Unsupported, KeyError, re.error) as error:
            fail(f"{self.name}: the pattern of {shape}, {text!r}: {error!r}; replace it in models/{self.name}.json")
        name = patterns[text] = f"kPattern{len(patterns) + 1}"
        ops = {"class": "kClass", "split": "kSplit", "jump": "kJump", "match": "kMatch"}
        steps = ", ".join(f"{{PatternOp::{ops[op]}, {a}, {b}}}" for op, a, b in program.steps)
        ranges = ", ".join(f"{{{first}, {last}}}" for first, last in program.ranges)
        out.append(f"constexpr PatternStep {name}Steps[] = {{{steps}}};\n"
                   f"constexpr CharRange {name}Ranges[] = {{{ranges}}};\n"
                   f"constexpr Pattern {name}{{.text = {quoted(text)}, .forbidden_prefix = "
                   f"{quoted(program.forbidden_prefix)}, .steps = {name}Steps, .ranges = {name}Ranges}};")
        return name

    # ---- codecs ----

    def containers(self, names):
        return [n for n in names if self.kind(n) in ("list", "map")]

    def codec_h(self):
        out = [f"using In = {'JsonIn' if self.protocol == 'json' else 'QueryIn'};",
               f"using Out = {'JsonOut' if self.protocol == 'json' else 'XmlOut'};", "class Handler;", "",
               "extern const ServiceModel kModel;"]
        out += [f"{self.route(n)};" for n in self.operations]
        out += [f"extern const {self.constraint_type(n)} {self.constant(n)};" for n in self.constraint_names()]
        out += [f"void read(const In& in, {n}& out);" for n in self.read if self.kind(n) == "structure"]
        out += [f"void read_{n}(const In& in, {self.cpp(n)}& out);" for n in self.containers(self.read)]
        out += [f"void write(Out& out, const {n}& value);" for n in self.written if self.kind(n) == "structure"]
        out += [f"void write_{n}(Out& out, const {self.cpp(n)}& value);" for n in self.containers(self.written)]
        codec = "json_codec.h" if self.protocol == "json" else "query_codec.h"
        return (self.head("Private to the generated code of this service.") +
                f"#pragma once\n\n#include \"aws/constraints.h\"\n#include \"aws/{codec}\"\n"
                f"#include \"aws/{self.name}/types.h\"\n\n" + self.inside("\n".join(out) + "\n"))

    def split(self, stem, functions):
        files = {}
        for at in range(0, max(len(functions), 1), FUNCTIONS_PER_FILE):
            body = "\n".join(functions[at:at + FUNCTIONS_PER_FILE])
            files[f"{stem}_{at // FUNCTIONS_PER_FILE + 1}.cc"] = (
                self.head("Straight-line codec code.") + f"#include \"aws/{self.name}/codec.h\"\n\n" +
                self.inside(body))
        return files

    def read_value(self, at, name, target):
        """The statement that reads the shape `name` from the In `at` into the lvalue `target`."""
        kind = self.kind(name)
        if kind == "structure":
            return f"read({at}, {target});"
        if kind in ("list", "map"):
            return f"read_{name}({at}, {target});"
        constraint = f", {self.constant(name)}" if self.constrained(name) else ""
        return f"{at}.{VERBS[kind]}({target}{constraint});"

    def check_count(self, shape):
        if "min" not in shape and "max" not in shape:
            return []
        return [f"  in.check_count(items.size(), {shape.get('min', 0)}, {shape.get('max', -1)});"]

    def readers(self):
        return [self.reader(n) for n in self.read if self.kind(n) in ("structure", "list", "map")]

    def reader(self, name):
        shape = self.shapes[name]
        out = []
        if shape["type"] == "structure":
            members = shape.get("members", {})
            unused = "" if members else "/*out*/"
            out.append(f"void read(const In& in, {name}& {unused or 'out'}) {{\n  in.expect_structure();")
            for member, ref in members.items():
                required = member in shape.get("required", [])
                target = f"out.{snake(member)}" + ("" if required else ".emplace()")
                find = "required" if required else "member"
                out.append(f"  if (const In at = in.{find}({quoted(self.wire(member, ref))})) "
                           f"{self.read_value('at', ref['shape'], target)}")
        elif shape["type"] == "list":
            out.append(f"void read_{name}(const In& in, {self.cpp(name)}& out) {{\n"
                       f"  const std::vector<In> items = in.items({quoted(self.item_name(shape))});")
            out += self.check_count(shape)
            out.append("  out.reserve(items.size());")
            out.append(f"  for (const In& item : items) "
                       f"{self.read_value('item', shape['member']['shape'], 'out.emplace_back()')}")
        else:
            names = [quoted("" if shape.get("flattened") else "entry"),
                     quoted(shape["key"].get("locationName", "key")),
                     quoted(shape["value"].get("locationName", "value"))]
            out.append(f"void read_{name}(const In& in, {self.cpp(name)}& out) {{\n"
                       f"  const std::vector<Entry<In>> items = in.entries({', '.join(names)});")
            out += self.check_count(shape)
            out.append("  for (const Entry<In>& item : items) {\n    std::string key;")
            out.append(f"    {self.read_value('item.key', shape['key']['shape'], 'key')}")
            out.append(f"    {self.read_value('item.value', shape['value']['shape'], 'out[std::move(key)]')}\n  }}")
        return "\n".join(out) + "\n}\n"

    def writers(self):
        return [self.writer(n) for n in self.written if self.kind(n) in ("structure", "list", "map")]

    def write_value(self, name, value):
        kind = self.kind(name)
        if kind == "structure":
            return f"write(out, {value});"
        if kind in ("list", "map"):
            return f"write_{name}(out, {value});"
        return f"out.{VERBS[kind]}({value});"

    def writer(self, name):
        shape = self.shapes[name]
        out = []
        if shape["type"] == "structure":
            members = shape.get("members", {})
            out.append(f"void write(Out& out, const {name}& {'value' if members else '/*value*/'}) {{\n"
                       f"  out.begin_structure();")
            for member, ref in members.items():
                wire, field = quoted(self.wire(member, ref)), snake(member)
                required = member in shape.get("required", [])
                body = (f"out.begin_member({wire}); "
                        f"{self.write_value(ref['shape'], ('' if required else '*') + 'value.' + field)} "
                        f"out.end_member({wire});")
                out.append("  " + body if required else f"  if (value.{field}) {{ {body} }}")
            out.append("  out.end_structure();")
        elif shape["type"] == "list":
            if shape.get("flattened"):
                fail(f"{self.name}: {name} is a flattened list in an answer, which the generator does not do yet")
            item = quoted(self.item_name(shape))
            out.append(f"void write_{name}(Out& out, const {self.cpp(name)}& value) {{\n  out.begin_list();\n"
                       f"  for (const auto& item : value) {{\n    out.begin_item({item});\n"
                       f"    {self.write_value(shape['member']['shape'], 'item')}\n    out.end_item({item});\n  }}\n"
                       f"  out.end_list();")
        else:
            names = ", ".join([quoted(shape["key"].get("locationName", "key")),
                               quoted(shape["value"].get("locationName", "value"))])
            out.append(f"void write_{name}(Out& out, const {self.cpp(name)}& value) {{\n  out.begin_map();\n"
                       f"  for (const auto& [key, item] : value) {{\n    out.begin_entry(key, {names});\n"
                       f"    {self.write_value(shape['value']['shape'], 'item')}\n"
                       f"    out.end_entry({names.split(', ')[1]});\n  }}\n  out.end_map();")
        return "\n".join(out) + "\n}\n"

    # ---- the service ----

    def message_member(self, name):
        for member in self.shapes[name].get("members", {}):
            if member.lower() == "message":
                return member
        return "message"

    def service_cc(self):
        errors = []
        for name in self.errors:
            shape = self.shapes[name]
            error = shape.get("error", {})
            status = error.get("httpStatusCode", 500 if shape.get("fault") else 400)
            errors.append(f"    {{{quoted(name)}, {quoted(error.get('code', name))}, {status}, "
                          f"{quoted(self.message_member(name))}}},")
        routes = [f"    {{{quoted(o)}, route_{snake(o)}}}," for o in self.operations]
        protocol = {"json": "kJson", "query": "kQuery"}[self.protocol]
        fields = {
            "name": quoted(self.name),
            "signing_name": quoted(self.meta.get("signingName", self.meta["endpointPrefix"])),
            "protocol": f"Protocol::{protocol}", "json_version": quoted(self.meta.get("jsonVersion", "")),
            "target_prefix": quoted(self.meta.get("targetPrefix", "")), "api_version": quoted(self.meta["apiVersion"]),
            "xml_namespace": quoted(self.meta.get("xmlNamespace", "")),
            "validation_error": quoted(self.entry["validation_error"]),
            "internal_error": quoted(self.entry["internal_error"]), "errors": "kErrors",
        }
        body = ["namespace {\n"]
        if errors:
            body.append("constexpr ErrorShape kErrors[] = {\n" + "\n".join(errors) + "\n};\n")
        else:
            body.append("constexpr std::span<const ErrorShape> kErrors{};\n")
        body.append("constexpr Route<Handler> kRoutes[] = {\n" + "\n".join(routes) + "\n};\n")
        body.append("}  // namespace\n")
        body.append("const ServiceModel kModel{\n" +
                    "\n".join(f"    .{key} = {value}," for key, value in fields.items()) + "\n};\n")
        body.append("std::unique_ptr<aws::Service> make_service(Handler& handler) {\n"
                    "  return std::make_unique<RoutedService<Handler>>(handler, kModel, kRoutes);\n}\n")
        return (self.head(f"{self.meta['serviceFullName']}: from operation names to the handler.") +
                f"#include <memory>\n#include <utility>\n\n#include \"aws/{self.name}/codec.h\"\n"
                f"#include \"aws/{self.name}/handler.h\"\n#include \"aws/dispatch.h\"\n\n" +
                self.inside("\n".join(body)))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != content:
        path.write_text(content)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--models", type=pathlib.Path, required=True)
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("--inputs", action="store_true")
    options = arguments.parse_args()
    services = [Service(n, e, options.models) for n, e in load(options.models / "services.json").items()]
    if options.inputs:
        here = pathlib.Path(__file__).resolve()
        inputs = [here, here.with_name("pattern_compiler.py"), options.models / "services.json"]
        for path in inputs + [p for s in services for p in s.inputs]:
            print(path)
        return
    for service in services:
        for name, content in service.files().items():
            path = options.out / service.name / name
            if options.list:
                print(path)
            else:
                write(path, content)


if __name__ == "__main__":
    main()
