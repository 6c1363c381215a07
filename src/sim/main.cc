// hob_sim: plays whole regions from seeds, and tells of those that break an invariant.
//
//   hob_sim --seeds 1000 --first 1 --jobs 2
//     progress on stderr; a short story for each seed that fails, and status 1
//   hob_sim --seeds 1 --first 42 --trace
//     the whole story of one
#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/log.h"
#include "sim/campaign.h"

namespace {

constexpr uint64_t kJobsMax = 64;
constexpr int kFailuresMax = 20;  // of a job; then it ends

double cpu_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

int usage() {
  fmt::print(stderr,
             "usage: hob_sim [--seeds N] [--first SEED] [--jobs N] [--trace] [--directory DIR]\n");
  return 2;
}

// Plays its share of the seeds; the number of those that failed.
int play(hob::sim::CampaignOptions options, uint64_t job, uint64_t jobs) {
  const uint64_t end = options.first + options.seeds;
  options.step = jobs;
  options.directory = options.directory / fmt::format("region{}", job);
  options.progress = [&](const hob::sim::CampaignTotals& totals) {
    fmt::print(stderr,
               "{}{} seeds, {:.1f}/s of CPU: {} virtual hours, {} crashes, {} operations, {} of {} "
               "requests answered\n",
               jobs > 1 ? fmt::format("job {}: ", job) : "", totals.seeds,
               static_cast<double>(totals.seeds) / cpu_seconds(), totals.virtual_ms / 3'600'000,
               totals.crashes, totals.operations, totals.answered, totals.requests);
  };
  hob::sim::CampaignTotals totals;
  int failures = 0;
  for (uint64_t seed = options.first + job; seed < end && failures < kFailuresMax;) {
    options.first = seed;
    options.seeds = (end - seed + jobs - 1) / jobs;
    const auto failure = hob::sim::run_campaign(options, totals);
    if (!failure) break;
    ++failures;
    fmt::print("{}replay: make sim SEED={} TRACE=1\n\n", failure->story, failure->seed);
    std::fflush(stdout);
    seed = failure->seed + jobs;
  }
  return failures;
}

// Each in a process of its own: a region has the process's clock.
int play_all(const hob::sim::CampaignOptions& options, uint64_t jobs) {
  if (jobs == 1) return play(options, 0, 1);
  std::fflush(stdout);
  for (uint64_t job = 0; job < jobs; ++job) {
    const pid_t child = ::fork();
    if (child < 0) {
      fmt::print(stderr, "hob_sim: no more processes\n");
      return 1;
    }
    if (child == 0) std::_Exit(std::min(play(options, job, jobs), 1));
  }
  int failures = 0;
  for (int status = 0; ::wait(&status) > 0;)
    failures += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
  return failures;
}

}  // namespace

int main(int argc, char** argv) {
  hob::sim::CampaignOptions options;
  std::string directory;
  uint64_t jobs = 1;
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
    } else if (word == "--jobs") {
      jobs = std::strtoull(argv[++i], nullptr, 10);
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
  options.directory = directory;
  if (!options.trace) hob::sim::silence_logs();
  jobs = std::clamp<uint64_t>(jobs, 1, std::clamp<uint64_t>(options.seeds, 1, kJobsMax));
  const int failures = play_all(options, jobs);
  (void)hob::remove_tree(directory);
  return failures == 0 ? 0 : 1;
}
