#include "builder/build.h"

#include <algorithm>
#include <deque>

#include "base/time.h"
#include "builder/oci_layout.h"
#include "builder/parts.h"
#include "sandbox/command_line.h"

namespace hob::builder {

namespace {

namespace fs = std::filesystem;

constexpr const char* kBaseMadeBy = "Debian 12";
constexpr const char* kNoPath = ".";             // what no file in a layer is called
constexpr uint64_t kCacheBytesMax = 1ULL << 30;  // of a service's package caches, unpacked
constexpr size_t kLastLines = 20;                // of a failed command, in the error
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
    run_stack_.push_back({base, kBaseMadeBy});
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
    const std::vector<std::string>& without = recipe().runtime.runtime->ignore;
    HOB_TRY(const std::string fingerprint,
            source_fingerprint(*request_.source, in_app(""), inputs, without));
    const std::string key = "source 2 " + fingerprint;
    if (const std::optional<Layer> made = store().find(key)) return *made;
    const fs::path file = store().temporary(name);
    HOB_TRY(LayerWriter writer, LayerWriter::open(file));
    HOB_CHECK(add_source(writer, *request_.source, in_app(""), inputs, without));
    HOB_TRY(const Layer layer, writer.finish());
    HOB_CHECK(store().put(key, layer, file));
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

  bool uses_caches() const { return !request_.cache.empty() && !recipe().caches.empty(); }
  // Where the service's package caches of this runtime lie, as a layer below the steps' own.
  std::string cache_key() const {
    return fmt::format("cache 1 {} {}\n{}", recipe().runtime.runtime->name,
                       recipe().runtime.version->name, request_.cache);
  }

  std::string key_of(std::string_view what, const Stack& stack,
                     const std::vector<std::string>& commands) const {
    std::string key = fmt::format("{} 2", what);
    for (const Stacked& each : stack) key += "\n" + each.layer.diff_id;
    for (const std::string& each : commands) key += "\nrun " + each;
    for (const auto& [name, value] : recipe().build_environment) key += "\n" + name + "=" + value;
    if (uses_caches()) key += "\ncache " + request_.cache;
    return key;
  }

  // What of a step's files is kept as a layer.
  struct Keep {
    std::string name;  // for its key
    std::vector<std::string> only{};
    std::vector<std::string> without{};
  };
  Keep keep_application() const {
    Keep keep{.name = "app", .only = {in_app("")}};
    for (const std::string& each : recipe().drop) keep.without.push_back(in_app("/") + each);
    return keep;
  }
  Keep keep_built() const {
    Keep keep = keep_application();
    if (!recipe().keep.empty()) keep.only.clear();
    for (const std::string& each : recipe().keep) keep.only.push_back(in_app("/") + each);
    return keep;
  }

  // Runs commands over a stack; what they wrote is as many layers. None: they need not run, as
  // nothing has changed since they did.
  Result<std::vector<Layer>> layers_of(std::string_view what, const Stack& stack,
                                       const std::vector<std::string>& commands,
                                       const std::vector<Keep>& keeps) {
    std::vector<std::string> keys;
    std::vector<Layer> layers;
    for (const Keep& keep : keeps) {
      std::string key = key_of(what, stack, commands) + "\nas " + keep.name;
      for (const std::string& each : keep.only) key += "\nkeep " + each;
      for (const std::string& each : keep.without) key += "\ndrop " + each;
      if (const std::optional<Layer> made = store().find(key)) layers.push_back(*made);
      keys.push_back(std::move(key));
    }
    if (layers.size() == keeps.size()) {
      tools_.stage(fmt::format("{}: nothing has changed", what));
      return layers;
    }
    layers.clear();
    const auto file = [&](size_t i) { return store().temporary(fmt::format("step-{}.tar", i)); };
    HOB_CHECK(run_commands(what, stack, commands, [&](const StepFiles& files) -> Result<void> {
      for (size_t i = 0; i < keeps.size(); ++i) {
        UpperOptions options{.directory = files.upper,
                             .first_id = files.first_id,
                             .leave_out = left_out_of_layers(),
                             .empty_out = emptied_in_layers(),
                             .only = keeps[i].only};
        for (const auto& more : {keeps[i].without, recipe().caches}) {
          options.leave_out.insert(options.leave_out.end(), more.begin(), more.end());
        }
        HOB_TRY(LayerWriter writer, LayerWriter::open(file(i)));
        HOB_CHECK(add_upper(writer, options));
        HOB_TRY(layers.emplace_back(), writer.finish());
      }
      keep_caches(files);
      return {};
    }));
    for (size_t i = 0; i < keeps.size(); ++i) HOB_CHECK(store().put(keys[i], layers[i], file(i)));
    return layers;
  }

  Result<Layer> layer_of(std::string_view what, const Stack& stack,
                         const std::vector<std::string>& commands, const Keep& keep) {
    HOB_TRY(const std::vector<Layer> layers, layers_of(what, stack, commands, {keep}));
    return layers.front();
  }

  // After a step that did well: its caches are the next one's. A build does not fail by them.
  void keep_caches(const StepFiles& files) {
    std::error_code ignored;
    const bool wrote = std::ranges::any_of(recipe().caches, [&](const std::string& each) {
      return fs::exists(fs::symlink_status(files.upper / each, ignored));
    });
    if (!uses_caches() || !wrote) return;
    const Result<void> kept = write_caches(files);
    if (!kept && kept.error().code == Code::kLimit) {
      store().forget(cache_key());
      tools_.stage(fmt::format("the package cache is over its {} MiB; the next build begins anew",
                               kCacheBytesMax >> 20));
    } else if (!kept) {
      tools_.stage("the package cache could not be kept: " + kept.error().message);
    }
  }

  Result<void> write_caches(const StepFiles& files) {
    const fs::path file = store().temporary("cache.tar");
    HOB_TRY(LayerWriter writer, LayerWriter::open(file));
    HOB_CHECK(add_upper(writer, {.directory = files.root,
                                 .first_id = files.first_id,
                                 .leave_out = {"root/.npm/_logs"},
                                 .only = recipe().caches}));
    HOB_TRY(const Layer layer, writer.finish());
    if (layer.bytes > kCacheBytesMax) return fail(Code::kLimit, "{} bytes", layer.bytes);
    return store().put(cache_key(), layer, file);
  }

  Result<void> run_commands(std::string_view what, const Stack& stack,
                            const std::vector<std::string>& commands, const KeepFiles& keep) {
    StepSpec step{.layers = trees(stack),
                  .commands = commands,
                  .environment = recipe().build_environment,
                  .working_directory = kApplicationFolder};
    if (uses_caches()) {
      if (const std::optional<Layer> cache = store().find(cache_key())) {
        step.layers.insert(step.layers.begin(), store().tree(*cache));
      }
    }
    for (const std::string& each : commands) tools_.stage(fmt::format("{}: {}", what, each));
    std::deque<std::string> last;
    const auto line = [&](std::string_view text) {
      last.emplace_back(text.substr(0, kLastLineBytes));
      if (last.size() > kLastLines) last.pop_front();
      tools_.line(text);
    };
    HOB_TRY(BuildSandbox* const sandbox, tools_.workshop->sandbox());
    HOB_TRY(const StepEnd end, sandbox->run(step, line, keep));
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
    HOB_TRY(const Layer installed, layer_of("install", stack, {step.command}, keep_application()));
    installed_ = installed;
    if (!step.for_image.empty() && !recipe().build.empty()) {
      HOB_TRY(const Layer slim,
              layer_of("install for the image", stack, {step.for_image}, keep_application()));
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
    const Keep application = keep_built();
    if (recipe().post_build.empty()) {
      HOB_TRY(built_, layer_of("build", stack, recipe().build, application));
      return {};
    }
    // post-build goes on where build ended, outside /app too.
    HOB_TRY(const std::vector<Layer> made,
            layers_of("build", stack, recipe().build, {application, {.name = "all"}}));
    built_ = made.front();
    stack.push_back({made.back(), "build"});
    // Only whether it does well counts, and that is known of the same one before.
    HOB_CHECK(
        layer_of("post-build", stack, recipe().post_build, {.name = "nothing", .only = {kNoPath}}));
    return {};
  }

  Result<void> pre_run() {
    // What is kept of /app is all in the build's own layer.
    if (recipe().keep.empty() || !built_) {
      run_stack_ = application(std::move(run_stack_), installed_for_image_);
    }
    if (built_) run_stack_.push_back({*built_, "build"});
    if (recipe().pre_run.empty()) return {};
    HOB_TRY(const Layer made, layer_of("pre-run", run_stack_, recipe().pre_run, {.name = "all"}));
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
    const auto attest = [&](const std::string& digest) -> std::vector<Attestation> {
      std::vector<fs::path> bottom_up = trees(run_stack_);
      std::ranges::reverse(bottom_up);
      return {bill_of_materials(digest, image_parts(bottom_up)), provenance(provenance_of(digest))};
    };
    HOB_TRY(const ImageFiles files, write_layout(plan, attest, store(), request_.output));
    BuildResult result{.digest = files.digest,
                       .size = files.size,
                       .runtime = title(),
                       .port = recipe().port,
                       .start = recipe().start,
                       .reasons = recipe().reasons};
    for (const AppSecret& each : recipe().secrets) result.secrets[each.name] = each.value_from;
    return result;
  }

  Provenance provenance_of(const std::string& digest) const {
    const RuntimeChoice& runtime = recipe().runtime;
    Provenance made{
        .image_digest = digest,
        .runtime = runtime.runtime->name + " " + runtime.version->name,
        .configuration = request_.source->find(kAppFileName) != nullptr ? kAppFileName : "detected",
        .labels = request_.labels,
        .operation = request_.operation,
        .started = started_,
        .finished = iso8601(SystemClock().now())};
    for (const Stacked& each : run_stack_) {
      if (each.made_by == title() || each.made_by == kBaseMadeBy) made.layers.push_back(each.layer);
    }
    return made;
  }

  const std::string started_ = iso8601(SystemClock().now());
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
