// Operations on the balloon.
#include "microvm/api/answers.h"
#include "microvm/api/api.h"

namespace hob::microvm {
namespace {

constexpr uint64_t kPagesPerMib = (1 << 20) / kBalloonPageBytes;
// By tag.
constexpr std::array<std::string_view, kBalloonStatisticsMax> kStatisticNames = {
    "swap_in",       "swap_out",         "major_faults", "minor_faults",        "free_memory",
    "total_memory",  "available_memory", "disk_caches",  "hugetlb_allocations", "hugetlb_failures",
    "oom_kill",      "alloc_stall",      "async_scan",   "direct_scan",         "async_reclaim",
    "direct_reclaim"};

Json number(uint64_t value) { return Json(Json::Value(value)); }
std::unexpected<Error> none() { return fail(Code::kInvalid, "No balloon device found."); }

}  // namespace

Result<void> MicrovmApi::set_balloon(const BalloonOptions& balloon) {
  if (balloon.target_mib > configuration_.memory_mib)
    return fail(Code::kInvalid, "Amount of pages requested is too large.");
  if (!balloon_) HOB_CHECK(check_device_count());
  balloon_ = balloon;
  return {};
}

MicrovmApi::Answer MicrovmApi::get_balloon(const HttpRequest&, const Json&) {
  if (!balloon_) return prefixed(Answer(none()), "Balloon config error");
  return shown(show(balloon_));
}

MicrovmApi::Answer MicrovmApi::put_balloon(const HttpRequest&, const Json& body) {
  HOB_TRY(const BalloonOptions balloon, body_of(read_balloon(body)));
  HOB_CHECK(prefixed(set_balloon(balloon), "Balloon config error"));
  return done();
}

// `change` gets the device, held, and what was asked for before boot.
MicrovmApi::Answer MicrovmApi::with_balloon(
    const std::function<Answer(Balloon&, BalloonOptions&)>& change) {
  if (!balloon_) return prefixed(Answer(none()), "Balloon config error");
  const Held<Balloon> held = machine_->hold_balloon();
  return prefixed(change(*held.device, *balloon_), "Balloon config error");
}

MicrovmApi::Answer MicrovmApi::patch_balloon(const HttpRequest&, const Json& body) {
  uint32_t target_mib = 0;
  Fields fields(body, "struct BalloonUpdateConfig", {"amount_mib"});
  fields.required("amount_mib", target_mib);
  HOB_CHECK(body_of(fields.finish()));
  return with_balloon([&](Balloon& device, BalloonOptions& options) -> Answer {
    if (target_mib > configuration_.memory_mib)
      return fail(Code::kInvalid, "Amount of pages requested is too large.");
    options.target_mib = target_mib;
    device.set_target(target_mib);
    return done();
  });
}

MicrovmApi::Answer MicrovmApi::get_balloon_statistics(const HttpRequest&, const Json&) {
  return with_balloon([&](Balloon& device, BalloonOptions& options) -> Answer {
    if (options.interval_s == 0)
      return fail(Code::kInvalid, "The statistics for the balloon device are not enabled.");
    Json::Object statistics = {{"target_pages", number(device.target_pages())},
                               {"actual_pages", number(device.actual_pages())},
                               {"target_mib", number(device.target_pages() / kPagesPerMib)},
                               {"actual_mib", number(device.actual_pages() / kPagesPerMib)}};
    for (size_t tag = 0; tag < kStatisticNames.size(); ++tag)
      if (const auto& value = device.statistics()[tag])
        statistics.emplace_back(std::string(kStatisticNames[tag]), number(*value));
    return shown(Json(std::move(statistics)));
  });
}

MicrovmApi::Answer MicrovmApi::patch_balloon_statistics(const HttpRequest&, const Json& body) {
  uint16_t interval_s = 0;
  Fields fields(body, "struct BalloonUpdateStatsConfig", {"stats_polling_interval_s"});
  fields.required("stats_polling_interval_s", interval_s);
  HOB_CHECK(body_of(fields.finish()));
  return with_balloon([&](Balloon& device, BalloonOptions& options) -> Answer {
    // Its queue is there from the start or not at all.
    if ((interval_s == 0) != (options.interval_s == 0))
      return fail(Code::kInvalid, "Statistics cannot be enabled/disabled after activation.");
    options.interval_s = interval_s;
    if (interval_s > 0) device.set_interval(interval_s);
    return done();
  });
}

MicrovmApi::Answer MicrovmApi::change_hints(const std::function<HttpResponse(Balloon&)>& change) {
  return with_balloon([&](Balloon& device, BalloonOptions& options) -> Answer {
    if (!options.hinting) return fail(Code::kInvalid, "Free page hinting is not enabled.");
    return change(device);
  });
}

MicrovmApi::Answer MicrovmApi::start_hints(const HttpRequest&, const Json& body) {
  std::optional<bool> acknowledge;
  Fields fields(body, "struct StartHintingCmd", {"acknowledge_on_stop"}, Fields::Unknown::kIgnored);
  fields.optional("acknowledge_on_stop", acknowledge);
  HOB_CHECK(body_of(fields.finish()));
  return change_hints([&](Balloon& device) {
    device.start_hints(acknowledge.value_or(true));
    return done();
  });
}

MicrovmApi::Answer MicrovmApi::get_hints(const HttpRequest&, const Json&) {
  return change_hints([](Balloon& device) {
    const auto guest = device.guest_run();
    return shown(Json(Json::Object{{"host_cmd", number(device.host_run())},
                                   {"guest_cmd", guest ? number(*guest) : Json()}}));
  });
}

MicrovmApi::Answer MicrovmApi::stop_hints(const HttpRequest&, const Json&) {
  return change_hints([](Balloon& device) {
    device.stop_hints();
    return done();
  });
}

}  // namespace hob::microvm
