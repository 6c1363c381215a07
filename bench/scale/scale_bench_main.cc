// Hob's scaling beside Knative's formulas and App Runner's rule with fixed reserves, on the same
// requests under virtual time. Prints a table; with a directory, writes an SVG of each trace there,
// and the tables of docs/scaling.md.
//
// usage: scale_bench [DIRECTORY [FIRST-SEED]]
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <vector>

#include "sim/request_simulation.h"

namespace {

using namespace hob::sim;

constexpr uint64_t kSeeds = 3;
constexpr double kStartTimes[] = {0.15, 2, 20};
constexpr double kPictureStart = 2;
constexpr int kListedMax = 6;

constexpr int kWidth = 700;
constexpr int kPanelHeight = 110;
constexpr int kLeft = 64;
constexpr int kTop = 64;
constexpr int kGap = 40;
constexpr const char* kOurs = "#2f81f7";
constexpr const char* kPeers = "#db6d28";
constexpr const char* kGrey = "#7d8590";  // on white and on black

struct Series {
  const Outcome* outcome;
  std::function<double(const Sample&)> value;
  const char* colour;
  bool dashed = false;
};

// "250", "3.4", "16.5 k": what fits beside an axis.
std::string human(double value) {
  if (value >= 1e6) return fmt::format("{:.3g} M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.3g} k", value / 1e3);
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

// One panel: its title, an axis from 0 to `most`, and lines.
std::string panel(int number, const std::string& title, double most, const char* unit, double lasts,
                  const std::vector<Series>& lines) {
  const int top = kTop + number * (kPanelHeight + kGap);
  const int bottom = top + kPanelHeight;
  std::string body =
      fmt::format("<text x='{}' y='{}' font-weight='bold'>{}</text>\n", kLeft, top - 8, title);
  for (const double share : {0.0, 0.5, 1.0}) {
    const double y = bottom - share * kPanelHeight;
    body += fmt::format(
        "<line x1='{0}' y1='{2:.1f}' x2='{1}' y2='{2:.1f}' stroke='{3}' stroke-opacity='0.35'/>"
        "<text x='{4}' y='{5:.1f}' text-anchor='end'>{6}{7}</text>\n",
        kLeft, kLeft + kWidth, y, kGrey, kLeft - 6, y + 4, human(share * most), unit);
  }
  for (int at = 0; at <= static_cast<int>(lasts); at += 150) {
    body += fmt::format("<text x='{:.0f}' y='{}' text-anchor='middle'>{} s</text>\n",
                        kLeft + at / lasts * kWidth, bottom + 16, at);
  }
  for (const Series& line : lines) {
    // Where a line goes on level, its ends are enough.
    std::string points;
    const auto& samples = line.outcome->samples;
    for (size_t i = 0; i < samples.size(); ++i) {
      const double value = line.value(samples[i]);
      const bool level = i > 0 && i + 1 < samples.size() && value == line.value(samples[i - 1]) &&
                         value == line.value(samples[i + 1]);
      if (level) continue;
      points += fmt::format("{:.0f},{:.1f} ", kLeft + samples[i].at / lasts * kWidth,
                            bottom - std::min(1.0, value / most) * kPanelHeight);
    }
    body += fmt::format("<polyline fill='none' stroke='{}' stroke-width='1.5'{} points='{}'/>\n",
                        line.colour, line.dashed ? " stroke-dasharray='3 3'" : "", points);
  }
  return body;
}

// Ours and Knative's on the same axes: instances of each, longest wait, requests that wait, and
// what it has cost so far.
std::string picture(const Trace& trace, const SimSettings& settings) {
  const auto hob = make_policy("hob", settings), knative = make_policy("knative", settings);
  const Outcome ours = simulate(trace, settings, *hob);
  const Outcome theirs = simulate(trace, settings, *knative);
  const auto most = [&](const std::function<double(const Sample&)>& value, double least) {
    for (const Outcome* outcome : {&ours, &theirs})
      for (const Sample& sample : outcome->samples) least = std::max(least, value(sample));
    return least;
  };
  const auto desired = [](const Sample& sample) { return double(sample.desired); };
  const auto ready = [](const Sample& sample) { return double(sample.ready); };
  const auto awake = [](const Sample& sample) { return double(sample.ready - sample.asleep); };
  const auto asleep = [](const Sample& sample) { return double(sample.asleep); };
  const auto wait = [](const Sample& sample) { return sample.longest_wait; };
  const auto queue = [](const Sample& sample) { return double(sample.waiting); };
  const auto cost = [](const Sample& sample) { return sample.awake_seconds; };
  const auto instances = [&](const Outcome& outcome, const char* colour) {
    return std::vector<Series>{{&outcome, desired, kGrey, true},
                               {&outcome, ready, kGrey},
                               {&outcome, asleep, "#8957e5"},
                               {&outcome, awake, colour}};
  };
  const auto both = [&](const std::function<double(const Sample&)>& value) {
    return std::vector<Series>{{&theirs, value, kPeers}, {&ours, value, kOurs}};
  };
  const double size = settings.max_size;
  std::string body;
  body += panel(0, "Instances, Hob", size, "", trace.lasts, instances(ours, kOurs));
  body +=
      panel(1, "Instances, Knative's formulas", size, "", trace.lasts, instances(theirs, kPeers));
  body += panel(2, "Requests that wait", most(queue, 1), "", trace.lasts, both(queue));
  body += panel(3, "Longest wait of those served in each second", most(wait, 0.01), " s",
                trace.lasts, both(wait));
  body +=
      panel(4, "Cost so far: awake instance-seconds", most(cost, 1), "", trace.lasts, both(cost));
  std::string legend;
  int x = kLeft;
  for (const auto& [colour, name] :
       {std::pair{kOurs, "Hob (awake)"}, std::pair{kPeers, "Knative (awake)"},
        std::pair{"#8957e5", "asleep"}, std::pair{kGrey, "ready (dashed: desired)"}}) {
    legend += fmt::format(
        "<rect x='{}' y='30' width='18' height='4' fill='{}'/><text x='{}' y='36'>{}</text>\n", x,
        colour, x + 24, name);
    x += 170;
  }
  return fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' width='{0}' height='{1}' viewBox='0 0 {0} {1}' "
      "font-family='sans-serif' font-size='12' fill='{2}'>\n<text x='{3}' y='18' "
      "font-weight='bold'>{4}: instances start in {5:g} s, 10 requests at once each</text>\n"
      "{6}{7}</svg>\n",
      kLeft + kWidth + 20, kTop + 5 * (kPanelHeight + kGap), kGrey, kLeft, trace.name,
      settings.start_time, legend, body);
}

void add(Outcome& sum, const Outcome& outcome, uint64_t seeds) {
  const auto n = static_cast<double>(seeds);
  sum.awake_seconds += outcome.awake_seconds / n;
  sum.asleep_gb_seconds += outcome.asleep_gb_seconds / n;
  sum.starts += outcome.starts;
  sum.wakes += outcome.wakes;
  sum.reversals += outcome.reversals;
  sum.p99 += outcome.p99 / n;
  sum.p999 += outcome.p999 / n;
  sum.late += outcome.late / n;
}

// Ours and a peer with the same limits.
struct Match {
  const char* name;
  std::string_view peer;
  SimSettings settings;
};

const Match kMatches[] = {
    {"minimum 1, Knative", "knative", {}},
    {"minimum 0, Knative", "knative", {.min_size = 0, .awake_min = 0, .sleep_after = 60}},
    {"3 reserves, App Runner's rule",
     "app runner",
     {.min_size = 3, .awake_min = 0, .sleep_after = 1}},
    {"3 reserves, the bare rule", "bare rule", {.min_size = 3, .awake_min = 0, .sleep_after = 1}},
};

// -1: ours is less, 0: the same as far as it matters, 1: ours is more.
int compare(double ours, double theirs, double step) {
  if (std::abs(ours - theirs) <= step) return 0;
  return ours < theirs ? -1 : 1;
}

struct Tally {
  int cells = 0, better = 0, same = 0, worse = 0;
  std::string worse_ones{};
  void add(int compared) {
    ++cells;
    (compared < 0 ? better : compared > 0 ? worse : same) += 1;
  }
};

// What docs/scaling.md shows: of the first match a row a trace, and a row a match.
struct Tables {
  std::string traces{};
  std::string matches{};

  void add(std::string_view trace, const Outcome& ours, const Outcome& theirs, uint64_t seeds) {
    const auto n = static_cast<double>(seeds);
    const double hours = n * 900.0 / 3600;
    const auto pair = [](double a, double b, int digits) {
      return fmt::format(" {:.{}f} / {:.{}f} |", a, digits, b, digits);
    };
    traces +=
        fmt::format("| {} |", trace) + pair(ours.awake_seconds, theirs.awake_seconds, 0) +
        pair(ours.p99 * 1e3, theirs.p99 * 1e3, 0) + pair(ours.p999 * 1e3, theirs.p999 * 1e3, 0) +
        pair(ours.late * 100, theirs.late * 100, 2) +
        pair(ours.asleep_gb_seconds, theirs.asleep_gb_seconds, 0) +
        pair(static_cast<double>(ours.starts) / n, static_cast<double>(theirs.starts) / n, 1) +
        pair(static_cast<double>(ours.reversals) / hours,
             static_cast<double>(theirs.reversals) / hours, 0) +
        "\n";
  }
};

void print_row(std::string_view trace, double start, std::string_view policy, const Outcome& mean,
               uint64_t seeds, const std::string& verdict) {
  const auto n = static_cast<double>(seeds);
  const double hours = 900.0 / 3600;
  printf("%-14s %5.2f %-11s %8.0f %8.0f %8.0f %7.2f%% %10.0f %7.1f %7.0f %6.0f  %s\n",
         std::string(trace).c_str(), start, std::string(policy).c_str(), mean.awake_seconds,
         mean.p99 * 1e3, mean.p999 * 1e3, mean.late * 100, mean.asleep_gb_seconds,
         static_cast<double>(mean.starts) / n, static_cast<double>(mean.wakes) / n / hours,
         static_cast<double>(mean.reversals) / n / hours, verdict.c_str());
}

void play(const Match& match, std::string_view name, uint64_t first_seed, uint64_t seeds,
          double failures, Tally& tally, Tables& tables) {
  for (const double start_time : kStartTimes) {
    SimSettings settings = match.settings;
    settings.start_time = start_time;
    settings.start_failures = failures;
    Outcome ours, theirs;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; ++seed) {
      const Trace trace = draw_trace(name, seed);
      const auto hob = make_policy("hob", settings), peer = make_policy(match.peer, settings);
      add(ours, simulate(trace, settings, *hob), seeds);
      add(theirs, simulate(trace, settings, *peer), seeds);
    }
    const std::pair<const char*, int> compared[] = {
        {"awake", compare(ours.awake_seconds, theirs.awake_seconds, 0.5)},
        {"p99", compare(ours.p99, theirs.p99, settings.wake_time)},
        {"p99.9", compare(ours.p999, theirs.p999, settings.wake_time)},
        {"late", compare(ours.late, theirs.late, 0.00005)}};
    std::string verdict;
    for (const auto& [what, result] : compared) {
      tally.add(result);
      if (result <= 0) continue;
      verdict += fmt::format("{}{}", verdict.empty() ? "worse: " : ", ", what);
      tally.worse_ones += fmt::format("{}{} of \"{}\" at {:g} s",
                                      tally.worse_ones.empty() ? "" : ", ", what, name, start_time);
    }
    if (&match == kMatches && start_time == kPictureStart) {
      const std::string failing = failures > 0 ? ", a fifth of the starts fails" : "";
      tables.add(std::string(name) + failing, ours, theirs, seeds);
    }
    print_row(name, start_time, "hob", ours, seeds, verdict);
    print_row("", start_time, match.peer, theirs, seeds, "");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t first_seed = argc > 2 ? std::stoull(argv[2]) : 1;
  printf(
      "Requests under virtual time: 900 s, 10 at once an instance, 200 ms on average, at most 25 "
      "instances of 2 GB, mean of seeds %d to %d.\n",
      static_cast<int>(first_seed), static_cast<int>(first_seed + kSeeds - 1));
  Tables tables;
  for (const Match& match : kMatches) {
    printf("\n== %s\n", match.name);
    printf("%-14s %5s %-11s %8s %8s %8s %8s %10s %7s %7s %6s\n", "trace", "start", "policy",
           "awake s", "p99 ms", "p99.9", "> 10 ms", "asleep GBs", "starts", "wakes/h", "rev/h");
    Tally tuned, held_out;
    for (const std::string_view name : kTraces)
      play(match, name, first_seed, kSeeds, 0, tuned, tables);
    printf("-- held out\n");
    for (const std::string_view name : kHeldOutTraces)
      play(match, name, first_seed, kSeeds, 0, held_out, tables);
    printf("-- held out: step, a fifth of the starts fails\n");
    play(match, "step", first_seed, kSeeds, 0.2, held_out, tables);
    for (const auto& [what, tally] : {std::pair{"traces", tuned}, {"held out", held_out}}) {
      printf("%s: of %d figures %d better, %d the same, %d worse\n", what, tally.cells,
             tally.better, tally.same, tally.worse);
    }
    tables.matches += fmt::format("| {} |", match.name);
    for (const Tally& tally : {tuned, held_out}) {
      tables.matches +=
          fmt::format(" {} better, {} the same, {} worse", tally.better, tally.same, tally.worse);
      // A list of many says no more than their number.
      if (tally.worse > 0 && tally.worse <= kListedMax) tables.matches += ": " + tally.worse_ones;
      tables.matches += " |";
    }
    tables.matches += "\n";
  }
  if (argc < 2) return 0;
  std::ofstream(std::string(argv[1]) + "/traces.md")
      << "| trace | awake, s | p99 wait, ms | p99.9, ms | later than 10 ms, % | asleep, GB s | "
         "starts | changes of direction an hour |\n"
         "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
      << tables.traces;
  std::ofstream(std::string(argv[1]) + "/matches.md")
      << "| the same limits for both | traces | held out |\n| --- | --- | --- |\n"
      << tables.matches;
  std::vector<std::string_view> drawn(std::begin(kTraces), std::end(kTraces));
  drawn.insert(drawn.end(), std::begin(kHeldOutTraces), std::end(kHeldOutTraces));
  for (const std::string_view name : drawn) {
    std::string file(name);
    std::ranges::replace(file, ' ', '-');
    std::ofstream out(std::string(argv[1]) + "/scale-" + file + ".svg");
    out << picture(draw_trace(name, 1), {.start_time = kPictureStart});
    if (!out.good()) {
      fprintf(stderr, "cannot write %s/scale-%s.svg\n", argv[1], file.c_str());
      return 1;
    }
  }
  return 0;
}
