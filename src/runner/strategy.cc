#include "runner/strategy.h"

#include <charconv>
#include <optional>
#include <vector>

#include "cluster/traffic_decision.h"
#include "runner/extensions.h"

namespace hob::runner {

namespace {

using cluster::DeploymentStrategy;

constexpr std::string_view kForms =
    "write 'rolling min=50 max=150', 'blue-green bake=10m', 'canary 10% 5m, 50% 5m' or 'linear 10% "
    "1m'";

// Words, and a comma (or a slash, which every tagging tool allows) as one of its own.
std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  size_t at = 0;
  while (at < text.size()) {
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    size_t end = at + 1;
    const auto separates = [](char c) { return c == ',' || c == '/'; };
    if (!separates(text[at])) {
      while (end < text.size() && text[end] != ' ' && !separates(text[end])) ++end;
    }
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

std::optional<int> parse_percent(std::string_view text) {
  if (text.ends_with('%')) text.remove_suffix(1);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return number;
}

Result<Duration> parse_wait(std::string_view text) {
  HOB_TRY(const Duration wait, parse_duration(text));
  if (wait > kStepWaitMax)
    return fail(Code::kInvalid, "'{}' is longer than {}h", text,
                kStepWaitMax / std::chrono::hours(1));
  return wait;
}

class Parsing {
 public:
  explicit Parsing(std::string_view text) : words_(words_of(text)) {}

  Result<Strategy> run() {
    const std::string_view name = next();
    auto& configuration = strategy_.configuration;
    if (name == "rolling") return rolling();
    if (name == "blue-green") {
      configuration.strategy = DeploymentStrategy::kBlueGreen;
    } else if (name == "canary") {
      configuration.strategy = DeploymentStrategy::kCanary;
      HOB_CHECK(canary());
    } else if (name == "linear") {
      configuration.strategy = DeploymentStrategy::kLinear;
      HOB_CHECK(linear());
    } else {
      return fail(Code::kInvalid, "'{}' is no strategy: {}", name, kForms);
    }
    if (peek().starts_with("bake=")) {
      HOB_TRY(configuration.bake_time, parse_wait(next().substr(5)));
    }
    return end();
  }

 private:
  std::string_view peek() const { return at_ < words_.size() ? words_[at_] : std::string_view(); }
  std::string_view next() {
    const std::string_view word = peek();
    if (at_ < words_.size()) ++at_;
    return word;
  }
  Result<Strategy> end() {
    if (at_ < words_.size())
      return fail(Code::kInvalid, "'{}' isn't understood: {}", peek(), kForms);
    return strategy_;
  }

  Result<Strategy> rolling() {
    for (; at_ < words_.size(); ++at_) {
      const std::string_view word = peek();
      const bool is_min = word.starts_with("min=");
      if (!is_min && !word.starts_with("max=")) return end();
      const std::optional<int> percent = parse_percent(word.substr(4));
      if (is_min && percent && *percent >= 0 && *percent <= 100) {
        strategy_.min_percent = *percent;
      } else if (!is_min && percent && *percent >= 100 && *percent <= 200) {
        strategy_.max_percent = *percent;
      } else {
        return fail(Code::kInvalid, "'{}' isn't valid: min is from 0 to 100, max from 100 to 200",
                    word);
      }
    }
    if (strategy_.min_percent == 100 && strategy_.max_percent == 100)
      return fail(Code::kInvalid, "Both min and max cannot be 100 as this will block deployments");
    return strategy_;
  }

  Result<void> canary() {
    int before = 0;
    do {
      HOB_TRY(const cluster::TrafficStep step, one_step());
      if (step.percent <= before)
        return fail(Code::kInvalid, "{}% comes after {}%: shares only grow", step.percent, before);
      if (strategy_.configuration.steps.size() == kTrafficStepsMax)
        return fail(Code::kInvalid, "there are more than {} steps", kTrafficStepsMax);
      before = step.percent;
      strategy_.configuration.steps.push_back(step);
    } while (another());
    return {};
  }
  bool another() {
    if (peek() != "," && peek() != "/") return false;
    ++at_;
    return true;
  }

  Result<void> linear() {
    HOB_TRY(const cluster::TrafficStep each, one_step());
    if (each.percent < kLinearStepMin)
      return fail(Code::kInvalid, "a linear step is {}% at least", kLinearStepMin);
    for (int percent = each.percent; percent < 100; percent += each.percent)
      strategy_.configuration.steps.push_back({.percent = percent, .wait = each.wait});
    return {};
  }

  Result<cluster::TrafficStep> one_step() {
    const std::string_view word = next();
    const std::optional<int> percent = parse_percent(word);
    if (!percent || *percent < 1 || *percent > 99)
      return fail(Code::kInvalid, "'{}' is no share from 1% to 99%: {}", word, kForms);
    HOB_TRY(const Duration wait, parse_wait(next()));
    return cluster::TrafficStep{.percent = *percent, .wait = wait};
  }

  std::vector<std::string_view> words_;
  size_t at_ = 0;
  Strategy strategy_{};
};

}  // namespace

Result<Strategy> parse_strategy(std::string_view text) {
  Result<Strategy> strategy = Parsing(text).run();
  // What is wrong, and always what would be right.
  if (!strategy && strategy.error().message.find(kForms) == std::string::npos)
    return fail(Code::kInvalid, "{}: {}", strategy.error().message, kForms);
  return strategy;
}

std::string show(Duration duration) {
  for (const auto& [unit, name] : {std::pair(Duration(std::chrono::hours(1)), "h"),
                                   std::pair(Duration(std::chrono::minutes(1)), "m"),
                                   std::pair(Duration(std::chrono::seconds(1)), "s")}) {
    if (duration >= unit && duration % unit == Duration(0))
      return fmt::format("{}{}", duration / unit, name);
  }
  return duration == Duration(0) ? "0s" : fmt::format("{}ms", duration.count());
}

std::string show(const Strategy& strategy) {
  const auto& [kind, steps, bake] = strategy.configuration;
  std::string text;
  switch (kind) {
    case DeploymentStrategy::kRolling:
      return fmt::format("rolling min={} max={}", strategy.min_percent, strategy.max_percent);
    case DeploymentStrategy::kBlueGreen:
      text = "blue-green";
      break;
    case DeploymentStrategy::kCanary:
      text = "canary";
      for (size_t i = 0; i < steps.size(); ++i)
        text += fmt::format("{} {}% {}", i == 0 ? "" : ",", steps[i].percent, show(steps[i].wait));
      break;
    case DeploymentStrategy::kLinear:
      text = "linear";
      if (!steps.empty())
        text += fmt::format(" {}% {}", steps.front().percent, show(steps.front().wait));
      break;
  }
  if (bake > Duration(0)) text += " bake=" + show(bake);
  return text;
}

Duration waits_of(const cluster::DeploymentConfiguration& configuration) {
  Duration all{0};
  for (const cluster::Phase& phase : cluster::phases_of(configuration)) all += phase.wait;
  return all;
}

}  // namespace hob::runner
