// What clients write into strings: start commands, ARNs, settings, page tokens. Nothing does more
// than be refused.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "runner/arns.h"
#include "runner/command_line.h"
#include "runner/extensions.h"
#include "runner/paging.h"
#include "runner/schedule.h"
#include "runner/strategy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::runner;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto words = split_command_line(text))
    HOB_ASSERT(!words->empty() && words->size() <= kArgumentsMax);
  if (const auto arn = parse_arn(text)) {
    HOB_ASSERT(!arn->name.empty() && !arn->kind.empty());
    HOB_ASSERT(arn->revision.value_or(1) >= 1);
  }
  if (const auto duration = parse_duration(text)) HOB_ASSERT(*duration >= hob::Duration(0));
  if (const auto schedule = parse_schedule(text)) {
    HOB_ASSERT(!schedule->empty() && schedule->size() <= kScheduleEntriesMax);
    const hob::Instant now{hob::Duration(static_cast<int64_t>(size) * 3'600'000)};
    HOB_ASSERT(scheduled_minimum(*schedule, now) <= kScheduleCountMax);
    HOB_ASSERT(*next_schedule_change(*schedule, now) > now);
  }
  if (const auto strategy = parse_strategy(text)) {
    HOB_ASSERT(strategy->configuration.steps.size() <= kTrafficStepsMax);
    HOB_ASSERT(parse_strategy(show(*strategy)).value() == *strategy);
  }
  const auto page = page_of<int>({{"a", 1}, {"b", 2}, {"c", 3}}, text, 2, "List");
  if (page) HOB_ASSERT(page->items.size() <= 2);
  return 0;
}
