#include "builder/build.h"

#include <algorithm>
#include <deque>

#include "builder/oci_layout.h"
#include "sandbox/command_line.h"

namespace hob::builder {

namespace {

namespace fs = std::filesystem;

constexpr size_t kLastLines = 20;  // of a failed command, in the error
constexpr size_t kLastLineBytes = 500;

std::string in_app(const char* path) { return std::string(kApplicationFolder).substr(1) + path; }

// Words that the shell would not touch may be run without it, so that signals reach the program.
std::vector<std::string> command_of(const std::string& start) {
  const bool plain = std::ranges::all_of(start, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(" ./_-:,@%+=").find(c) != std::string_view::npos;
  });
  std::vector<std::string> words;
  std::string word;
  for (const char c : start + " ") {
    if (c != ' ') {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  // NAME=value in front is the shell's to read.
  if (plain && !words.empty() && words.front().find('=') == std::string::npos) return words;
  return {"/bin/sh", "-c",
          start.find_first_of(";&|\n") == std::string::npos ? "exec " + start : start};
}

class Build {
 public:
  Build(const BaseTools& tools, const BuildRequest& request) : tools_(tools), request_(request) {}

  Result<BuildResult> run() {
    HOB_CHECK(make_stacks());
    HOB_CHECK(add_sources());
    HOB_CHECK(install());
    HOB_CHECK(build());
    HOB_CHECK(pre_run());
    return write_image();
  }

 private:
  struct Stacked {
    Layer layer;
    std::string made_by;
  };
  using Stack = std::vector<Stacked>;

  const Recipe& recipe() const { return request_.recipe; }
  const BuildStore& store() const { return *tools_.store; }

  std::string title() const {
    return recipe().runtime.runtime->title + " " + recipe().runtime.version->name;
  }

  Result<void> make_stacks() {
    HOB_TRY(const Layer base, base_layer(tools_));
    run_stack_.push_back({base, "Debian 12"});
    build_stack_ = run_stack_;
    const RuntimeVersion& version = *recipe().runtime.version;
    HOB_TRY(const std::vector<Layer> run, packages_layers(tools_, base, title(), version.run));
    for (const Layer& each : run) run_stack_.push_back({each, title()});
    HOB_TRY(const std::vector<Layer> build,
            packages_layers(tools_, base, title() + " for builds", version.build));
    for (const Layer& each : build) build_stack_.push_back({each, title()});
    return {};
  }

  Result<Layer> source_layer(const char* name, const std::vector<std::string>& inputs) {
    const fs::path file = store().temporary(name);
    HOB_TRY(LayerWriter writer, LayerWriter::open(file));
    HOB_CHECK(
        add_source(writer, *request_.source, in_app(""), inputs, recipe().runtime.runtime->ignore));
    HOB_TRY(const Layer layer, writer.finish());
    HOB_CHECK(store().put("source " + layer.diff_id, layer, file));
    return layer;
  }

  Result<void> add_sources() {
    tools_.stage("packing the source");
    HOB_TRY(source_, source_layer("source.tar", {}));
    return {};
  }

  std::vector<fs::path> trees(const Stack& stack) const {
    std::vector<fs::path> found;
    for (auto each = stack.rbegin(); each != stack.rend(); ++each) {
      found.push_back(store().tree(each->layer));
    }
    return found;
  }

  std::string key_of(std::string_view what, const Stack& stack,
                     const std::vector<std::string>& commands) const {
    std::string key = fmt::format("{} 1", what);
    for (const Stacked& each : stack) key += "\n" + each.layer.diff_id;
    for (const std::string& each : commands) key += "\nrun " + each;
    for (const auto& [name, value] : recipe().build_environment) key += "\n" + name + "=" + value;
    return key;
  }

  // Runs commands over a stack; what they wrote is the layer. None: they need not run, as nothing
  // has changed since they did.
  Result<Layer> layer_of(std::string_view what, const Stack& stack,
                         const std::vector<std::string>& commands) {
    std::vector<std::string> leave_out = left_out_of_layers();
    std::vector<std::string> only;
    std::string key = key_of(what, stack, commands);
    for (const std::string& each : what == "build" ? recipe().keep : std::vector<std::string>()) {
      only.push_back(in_app("/") + each);
      key += "\nkeep " + each;
    }
    for (const std::string& each : recipe().drop) {
      leave_out.push_back(in_app("/") + each);
      key += "\ndrop " + each;
    }
    if (const std::optional<Layer> made = store().find(key)) {
      tools_.stage(fmt::format("{}: nothing has changed", what));
      return *made;
    }
    const fs::path file = store().temporary("step.tar");
    Layer layer;
    HOB_CHECK(run_commands(what, stack, commands,
                           [&](const fs::path& upper, uint32_t first_id) -> Result<void> {
                             HOB_TRY(LayerWriter writer, LayerWriter::open(file));
                             HOB_CHECK(add_upper(writer, {.directory = upper,
                                                          .first_id = first_id,
                                                          .leave_out = leave_out,
                                                          .empty_out = emptied_in_layers(),
                                                          .only = only}));
                             HOB_TRY(layer, writer.finish());
                             return {};
                           }));
    HOB_CHECK(store().put(key, layer, file));
    return layer;
  }

  Result<void> run_commands(std::string_view what, const Stack& stack,
                            const std::vector<std::string>& commands, const KeepUpper& keep) {
    StepSpec step{.layers = trees(stack),
                  .commands = commands,
                  .environment = recipe().build_environment,
                  .working_directory = kApplicationFolder};
    for (const std::string& each : commands) tools_.stage(fmt::format("{}: {}", what, each));
    std::deque<std::string> last;
    const auto line = [&](std::string_view text) {
      last.emplace_back(text.substr(0, kLastLineBytes));
      if (last.size() > kLastLines) last.pop_front();
      tools_.line(text);
    };
    HOB_TRY(const StepEnd end, tools_.sandbox->run(step, line, keep));
    if (end.exit_code == 0) return {};
    const std::string& command = commands[std::min(end.failed_command, commands.size() - 1)];
    std::string why = fmt::format("ended with exit code {}", end.exit_code);
    if (end.out_of_time) why = "did not end in the time a build has";
    if (end.out_of_memory) why = "ran out of the memory a build has";
    std::string text;
    for (const std::string& each : last) text += "\n" + each;
    return fail(Code::kInvalid, "{}: '{}' {}{}{}", what, command, why,
                text.empty() ? "" : "; it printed last:", text);
  }

  Result<void> install() {
    if (!recipe().install) return {};
    const Recipe::Install& step = *recipe().install;
    Stack stack = build_stack_;
    if (step.inputs.empty()) {
      stack.push_back({source_, "source"});
    } else {
      HOB_TRY(const Layer inputs, source_layer("inputs.tar", step.inputs));
      stack.push_back({inputs, "lock files"});
    }
    HOB_TRY(const Layer installed, layer_of("install", stack, {step.command}));
    installed_ = installed;
    if (!step.for_image.empty() && !recipe().build.empty()) {
      HOB_TRY(const Layer slim, layer_of("install for the image", stack, {step.for_image}));
      installed_for_image_ = slim;
    } else {
      installed_for_image_ = installed;
    }
    return {};
  }

  Stack application(Stack stack, const std::optional<Layer>& dependencies) const {
    stack.push_back({source_, "source"});
    if (dependencies) stack.push_back({*dependencies, recipe().install->command});
    return stack;
  }

  Result<void> build() {
    if (recipe().build.empty()) return {};
    Stack stack = application(build_stack_, installed_);
    HOB_TRY(const Layer made, layer_of("build", stack, recipe().build));
    built_ = made;
    if (recipe().post_build.empty()) return {};
    stack.push_back({made, "build"});
    return run_commands("post-build", stack, recipe().post_build, {});
  }

  Result<void> pre_run() {
    // What is kept of /app is all in the build's own layer.
    if (recipe().keep.empty() || !built_) {
      run_stack_ = application(std::move(run_stack_), installed_for_image_);
    }
    if (built_) run_stack_.push_back({*built_, "build"});
    if (recipe().pre_run.empty()) return {};
    HOB_TRY(const Layer made, layer_of("pre-run", run_stack_, recipe().pre_run));
    run_stack_.push_back({made, "pre-run"});
    return {};
  }

  Result<BuildResult> write_image() {
    ImagePlan plan{.command = command_of(recipe().start),
                   .environment = recipe().environment,
                   .working_directory = kApplicationFolder,
                   .port = recipe().port,
                   .labels = request_.labels};
    plan.environment.emplace("PATH", sandbox::kDefaultPath);
    plan.environment.emplace("PORT", std::to_string(recipe().port));
    plan.labels["hob.runtime"] = recipe().runtime.runtime->name;
    plan.labels["hob.runtime.version"] = recipe().runtime.version->name;
    plan.labels["hob.start"] = recipe().start;
    for (const Stacked& each : run_stack_) {
      plan.layers.push_back(each.layer);
      plan.history.push_back(each.made_by);
    }
    HOB_TRY(const ImageFiles files, write_layout(plan, store(), request_.output));
    BuildResult result{.digest = files.digest,
                       .size = files.size,
                       .runtime = title(),
                       .port = recipe().port,
                       .start = recipe().start,
                       .reasons = recipe().reasons};
    for (const AppSecret& each : recipe().secrets) result.secrets[each.name] = each.value_from;
    return result;
  }

  const BaseTools& tools_;
  const BuildRequest& request_;
  Stack build_stack_;
  Stack run_stack_;
  Layer source_;
  std::optional<Layer> installed_;
  std::optional<Layer> installed_for_image_;
  std::optional<Layer> built_;
};

}  // namespace

Result<BuildResult> run_build(const BaseTools& tools, const BuildRequest& request) {
  return Build(tools, request).run();
}

}  // namespace hob::builder
