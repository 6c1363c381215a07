// Hob's scaling beside Knative's formulas and App Runner's rule with fixed reserves, on the same
// requests under virtual time. Prints a table; with a directory, writes an SVG a trace there.
//
// usage: scale_bench [DIRECTORY]
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "sim/request_simulation.h"

namespace {

using namespace hob::sim;

constexpr uint64_t kSeeds = 3;
constexpr double kStartTimes[] = {0.15, 2, 20};
constexpr double kPictureStart = 2;

constexpr int kWidth = 900;
constexpr int kPanelHeight = 130;
constexpr int kMargin = 40;

std::string line(const Outcome& outcome, int Sample::*what, double most, int top,
                 const char* colour) {
  std::string points;
  for (const Sample& sample : outcome.samples) {
    points += fmt::format("{:.0f},{:.1f} ", kMargin + sample.at,
                          top + kPanelHeight * (1 - std::min(1.0, sample.*what / most)));
  }
  return fmt::format("<polyline fill='none' stroke='{}' points='{}'/>\n", colour, points);
}

// A panel a policy, one above the other: instances desired, ready and asleep, and the queue.
std::string picture(const Trace& trace, const SimSettings& settings) {
  struct Series {
    int Sample::*what;
    const char* colour;
    const char* name;
  };
  constexpr Series kSeries[] = {{&Sample::desired, "#888888", "desired"},
                                {&Sample::ready, "#1a7f37", "ready"},
                                {&Sample::asleep, "#0969da", "asleep"}};
  std::string body;
  int top = kMargin;
  for (const std::string_view policy : kPolicies) {
    const auto made = make_policy(policy, settings);
    const Outcome outcome = simulate(trace, settings, *made);
    int queue = 1;
    for (const Sample& sample : outcome.samples) queue = std::max(queue, sample.waiting);
    body += fmt::format(
        "<text x='{}' y='{}'>{}: p99 {:.0f} ms, awake {:.0f} s, {} starts; queue up to {}</text>\n"
        "<rect x='{}' y='{}' width='{}' height='{}' fill='none' stroke='#d0d7de'/>\n",
        kMargin, top - 6, policy, outcome.p99 * 1e3, outcome.awake_seconds, outcome.starts, queue,
        kMargin, top, kWidth, kPanelHeight);
    body += line(outcome, &Sample::waiting, queue, top, "#cf222e");
    for (const Series& series : kSeries)
      body += line(outcome, series.what, settings.max_size, top, series.colour);
    top += kPanelHeight + kMargin;
  }
  std::string legend = fmt::format("<text x='{}' y='{}'>", kMargin, top);
  for (const Series& series : kSeries)
    legend += fmt::format("<tspan fill='{}'>{} </tspan>", series.colour, series.name);
  legend += fmt::format("(of {}) <tspan fill='#cf222e'>queue (of its own highest)</tspan></text>\n",
                        settings.max_size);
  return fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{}' font-family='sans-serif' "
      "font-size='12'>\n<title>{}</title>\n{}{}</svg>\n",
      kWidth + 2 * kMargin, top + kMargin, trace.name, body, legend);
}

void add(Outcome& sum, const Outcome& outcome) {
  sum.awake_seconds += outcome.awake_seconds / kSeeds;
  sum.asleep_gb_seconds += outcome.asleep_gb_seconds / kSeeds;
  sum.starts += outcome.starts;
  sum.p99 += outcome.p99 / kSeeds;
  sum.p999 += outcome.p999 / kSeeds;
  sum.late += outcome.late / kSeeds;
}

}  // namespace

int main(int argc, char** argv) {
  printf(
      "Requests under virtual time: 900 s, 10 at once an instance, 200 ms on average, 1 to 25 "
      "instances of 2 GB (App Runner: %d reserves), mean of %d seeds.\n",
      kReserves, static_cast<int>(kSeeds));
  printf("%-13s %6s %-11s %10s %10s %10s %9s %12s %7s\n", "trace", "start", "policy", "awake s",
         "p99 ms", "p99.9 ms", "> 10 ms", "asleep GB s", "starts");
  for (const std::string_view name : kTraces) {
    for (const double start_time : kStartTimes) {
      const SimSettings settings{.start_time = start_time};
      for (const std::string_view policy : kPolicies) {
        Outcome mean;
        for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
          const auto made = make_policy(policy, settings);
          add(mean, simulate(draw_trace(name, seed), settings, *made));
        }
        printf("%-13s %6.2f %-11s %10.0f %10.0f %10.0f %8.2f%% %12.0f %7.1f\n",
               std::string(name).c_str(), start_time, std::string(policy).c_str(),
               mean.awake_seconds, mean.p99 * 1e3, mean.p999 * 1e3, mean.late * 100,
               mean.asleep_gb_seconds, static_cast<double>(mean.starts) / kSeeds);
      }
    }
    if (argc < 2) continue;
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
