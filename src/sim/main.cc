// hob_sim: plays whole regions from seeds until one breaks an invariant.
//
//   hob_sim --seeds 1000 --first 1      progress on stderr; status 1 and a short story for a seed
//   that fails hob_sim --seeds 1 --first 42 --trace    the whole story of one
#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/log.h"
#include "sim/campaign.h"

namespace {

double cpu_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

int usage() {
  fmt::print(stderr, "usage: hob_sim [--seeds N] [--first SEED] [--trace] [--directory DIR]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  hob::sim::CampaignOptions options;
  std::string directory;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--trace") {
      options.trace = true;
    } else if (i + 1 == argc) {
      return usage();
    } else if (word == "--seeds") {
      options.seeds = std::strtoull(argv[++i], nullptr, 10);
    } else if (word == "--first") {
      options.first = std::strtoull(argv[++i], nullptr, 10);
    } else if (word == "--directory") {
      directory = argv[++i];
    } else {
      return usage();
    }
  }
  if (directory.empty()) {
    // Thousands of small files: in memory where there is such a place.
    const bool shm = ::access("/dev/shm", W_OK) == 0;
    std::string pattern = std::string(shm ? "/dev/shm" : "/tmp") + "/hob-sim-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) {
      fmt::print(stderr, "hob_sim: no directory can be made in {}\n", shm ? "/dev/shm" : "/tmp");
      return 2;
    }
    directory = pattern;
  }
  options.directory = std::filesystem::path(directory) / "region";
  if (!options.trace) hob::sim::silence_logs();
  options.progress = [&](const hob::sim::CampaignTotals& totals) {
    fmt::print(stderr,
               "{} seeds, {:.1f}/s of CPU: {} virtual hours, {} crashes, {} operations, {} of {} "
               "requests answered\n",
               totals.seeds, static_cast<double>(totals.seeds) / cpu_seconds(),
               totals.virtual_ms / 3'600'000, totals.crashes, totals.operations, totals.answered,
               totals.requests);
  };
  const auto failure = hob::sim::run_campaign(options);
  (void)hob::remove_tree(directory);
  if (!failure) return 0;
  fmt::print("{}", failure->story);
  fmt::print("replay: make sim SEED={} TRACE=1\n", failure->seed);
  return 1;
}
