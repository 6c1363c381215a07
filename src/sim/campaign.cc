#include "sim/campaign.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "sim/region.h"

namespace hob::sim {

namespace {

constexpr uint64_t kProgressEvery = 100;  // seeds
constexpr size_t kStoryLines = 40;

// The same seed with fewer kinds of faults and less time, as long as the same invariant breaks.
RegionOptions shortened(RegionOptions options, const std::string& invariant,
                        std::vector<std::string>& trace) {
  options.trace = false;
  const auto breaks = [&](const RegionOptions& fewer) {
    Region region(fewer);
    const auto found = region.run();
    if (!found || found->invariant != invariant) return false;
    trace = region.trace();
    return true;
  };
  for (const std::string_view kind : kFaultKinds) {
    RegionOptions fewer = options;
    fewer.without.insert(std::string(kind));
    if (breaks(fewer)) options = fewer;
  }
  for (const int minutes : {1, 2, 3, 4}) {
    RegionOptions fewer = options;
    fewer.minutes = minutes;
    if (!breaks(fewer)) continue;
    options = fewer;
    break;
  }
  return options;
}

}  // namespace

void silence_logs() {
  log::set_level(static_cast<log::Level>(static_cast<int>(log::Level::kError) + 1));
}

std::optional<CampaignFailure> run_campaign(const CampaignOptions& options,
                                            CampaignTotals& totals) {
  for (uint64_t i = 0; i < options.seeds; ++i) {
    const uint64_t seed = options.first + i * options.step;
    const RegionOptions each{.seed = seed,
                             .trace = options.trace,
                             .mutation = options.mutation,
                             .only = options.only,
                             .directory = options.directory};
    Region region(each);
    const auto violation = region.run();
    ++totals.seeds;
    totals.virtual_ms += region.totals().virtual_ms;
    totals.crashes += region.totals().crashes;
    totals.operations += region.totals().operations;
    totals.requests += region.totals().requests;
    totals.answered += region.totals().answered;
    if (options.progress && (totals.seeds % kProgressEvery == 0 || i + 1 == options.seeds))
      options.progress(totals);
    if (!violation) continue;
    if (!options.only.empty() && violation->invariant != options.only) continue;
    CampaignFailure failure{.seed = seed, .invariant = violation->invariant};
    failure.story = fmt::format("seed {}: {}: {}\n", seed, violation->invariant, violation->what);
    if (options.trace || options.mutation != Mutation::kNone) return failure;
    std::vector<std::string> trace = region.trace();
    const RegionOptions fewer = shortened(each, violation->invariant, trace);
    std::string kept;
    for (const std::string_view kind : kFaultKinds) {
      if (!fewer.without.contains(std::string(kind))) kept += fmt::format(" {}", kind);
    }
    failure.story +=
        fmt::format("also without all faults but:{}{}\n", kept.empty() ? " none" : kept,
                    fewer.minutes > 0 ? fmt::format("; in {} min", fewer.minutes) : "");
    for (size_t at = trace.size() - std::min(trace.size(), kStoryLines); at < trace.size(); ++at)
      failure.story += trace[at] + "\n";
    return failure;
  }
  return std::nullopt;
}

}  // namespace hob::sim
