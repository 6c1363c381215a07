// Regions from a few hundred seeds, that a seed always tells the same story, and that bugs put in
// on purpose are found.
#include "sim/region.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "sim/campaign.h"

namespace hob::sim {
namespace {

constexpr uint64_t kSeeds = 200;
constexpr uint64_t kMutationSeedsMax = 40;  // within so many every bug below is found

class RegionTest : public testing::Test {
 protected:
  RegionTest() {
    std::string pattern =
        ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/hob-sim-XXXXXX" : "/tmp/hob-sim-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    silence_logs();
  }
  ~RegionTest() override { (void)remove_tree(directory_); }
  std::filesystem::path directory_;
};

TEST_F(RegionTest, NoSeedBreaksAnInvariant) {
  CampaignTotals totals;
  const auto failure = run_campaign({.seeds = kSeeds, .directory = directory_ / "region"}, totals);
  EXPECT_FALSE(failure) << failure->story << "replay: make sim SEED=" << failure->seed
                        << " TRACE=1";
}

TEST_F(RegionTest, ASeedAlwaysTellsTheSameStory) {
  for (const uint64_t seed : {3, 11, 27}) {
    const RegionOptions options{.seed = seed, .directory = directory_ / "region"};
    std::vector<std::string> traces[2];
    for (auto& trace : traces) {
      Region region(options);
      EXPECT_FALSE(region.run());
      trace = region.trace();
      trace.push_back(fmt::format("{} steps, hash {}", region.totals().steps, region.trace_hash()));
    }
    EXPECT_EQ(traces[0], traces[1]);
  }
}

TEST_F(RegionTest, FindsBugsPutInOnPurpose) {
  struct Case {
    const char* name;
    Mutation mutation;
    const char* invariant;
  };
  for (const Case& c : {
           Case{"a commit is answered and not written", Mutation::kLoseCommit,
                "no acknowledged write is lost"},
           Case{"two hosts pass for one", Mutation::kTwoHosts, "no task runs on two hosts"},
           Case{"an edge says it applies what it does not yet", Mutation::kEdgeLies,
                "no request is sent to a task that was told to stop"},
           Case{"an edge does not hear that a task is awake", Mutation::kForgetWake,
                "a request is answered where it has a place to go"},
           Case{"an edge gives tasks more than they take", Mutation::kOverfill,
                "an edge gives a task no more than its max concurrency"},
           Case{"an edge forgets whose client it was", Mutation::kStray,
                "a client returns to its target"},
           Case{"what is removed runs on", Mutation::kKeepContainer,
                "no container outlives its task"},
           Case{"tasks share an address", Mutation::kKeepAddress, "no two tasks have one address"},
           Case{"a machine ends what serves", Mutation::kEndTask,
                "a rollout keeps what is promised"},
           Case{"nobody hears that a container has ended", Mutation::kStuckTask,
                "a task that is told to stop ends"},
       }) {
    CampaignTotals totals;
    const auto failure = run_campaign({.seeds = kMutationSeedsMax,
                                       .mutation = c.mutation,
                                       .only = c.invariant,
                                       .directory = directory_ / "region"},
                                      totals);
    ASSERT_TRUE(failure) << c.name << ": not found";
    EXPECT_EQ(failure->invariant, c.invariant) << c.name;
    RecordProperty(c.name, fmt::format("seed {}: {}", failure->seed, failure->invariant));
    fmt::print("  {}: seed {}: {}\n", c.name, failure->seed, failure->invariant);
  }
}

}  // namespace
}  // namespace hob::sim
