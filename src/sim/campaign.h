// Many regions, one after the other, and what to tell of the first that fails.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "sim/faults.h"

namespace hob::sim {

struct CampaignTotals {
  uint64_t seeds = 0;
  int64_t virtual_ms = 0, crashes = 0, operations = 0, requests = 0, answered = 0;
};

struct CampaignOptions {
  uint64_t first = 1;
  uint64_t seeds = 1;
  uint64_t step = 1;   // from one to the next
  bool trace = false;  // print all that happens, and make nothing shorter
  Mutation mutation = Mutation::kNone;
  std::string only{};                                     // RegionOptions::only
  std::filesystem::path directory{};                      // emptied for every region
  std::function<void(const CampaignTotals&)> progress{};  // now and then, and at the end
};

struct CampaignFailure {
  uint64_t seed = 0;
  std::string invariant{};
  std::string story{};  // for people: the seed, the sentence, the faults it needs, the last events
};

// Ends with the first seed that breaks an invariant; nullopt: none did. Adds to `totals`.
std::optional<CampaignFailure> run_campaign(const CampaignOptions& options, CampaignTotals& totals);

// The rooms' own log lines tell of faults that were put in on purpose.
void silence_logs();

}  // namespace hob::sim
