// Minimum sizes at set times: the value of the tag hob:min-size-schedule (docs/extensions.md).
// Pure; any thread.
//
//   SCHEDULE = ENTRY *( "/" ENTRY )
//   ENTRY    = DAYS SP HH:MM-HH:MM SP COUNT          all in UTC
//   DAYS     = "daily" | DAY | DAY "-" DAY           "Mon" … "Sun"; "Sat-Mon" goes over Sunday
//
// A time span that ends at or before its beginning ends on the next day; 24:00 is a day's end.
// Where several are on, the largest counts. A slash, since clients cut tag values at commas.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace hob::runner {

inline constexpr size_t kScheduleEntriesMax = 16;
inline constexpr int kScheduleCountMax = 1'000;  // as kMaxSizeMax

struct ScheduledMinimum {
  int first_day = 0;  // 0: Monday … 6: Sunday
  int last_day = 6;   // before first_day: over Sunday
  int from = 0;       // minutes of the day, 0..1439
  int to = 1440;      // 1..1440; at or before `from`: of the next day
  int count = 0;      // 0..kScheduleCountMax
  bool operator==(const ScheduledMinimum&) const = default;
};
using Schedule = std::vector<ScheduledMinimum>;

// kInvalid: says which entry is wrong, and what one looks like.
Result<Schedule> parse_schedule(std::string_view text);
// The largest count of those that are on; 0: none.
int scheduled_minimum(const Schedule& schedule, Instant now);
// When some entry begins or ends next, later than `now`; nullopt: there is none.
std::optional<Instant> next_schedule_change(const Schedule& schedule, Instant now);

}  // namespace hob::runner
