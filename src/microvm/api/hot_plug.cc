// Operations on memory that is plugged in and out.
#include "microvm/api/answers.h"
#include "microvm/api/api.h"

namespace hob::microvm {
namespace {

Json number(uint64_t value) { return Json(Json::Value(value)); }
std::unexpected<Error> none() { return fail(Code::kInvalid, "No memory hotplug device found."); }

}  // namespace

Result<void> MicrovmApi::set_hot_plug(const HotPlugOptions& hot_plug) {
  HOB_CHECK(check(hot_plug));
  if (!hot_plug_) HOB_CHECK(check_device_count());
  hot_plug_ = hot_plug;
  return {};
}

MicrovmApi::Answer MicrovmApi::put_hot_plug(const HttpRequest&, const Json& body) {
  HOB_TRY(const HotPlugOptions hot_plug, body_of(read_hot_plug(body)));
  HOB_CHECK(prefixed(set_hot_plug(hot_plug), "Memory hotplug config error"));
  return done();
}

MicrovmApi::Answer MicrovmApi::get_hot_plug(const HttpRequest&, const Json&) {
  if (!hot_plug_) return prefixed(Answer(none()), "Memory hotplug config error");
  const Held<Mem> held = machine_->hold_hot_plug();
  return shown(Json(Json::Object{{"total_size_mib", number(hot_plug_->total)},
                                 {"slot_size_mib", number(hot_plug_->slot)},
                                 {"block_size_mib", number(hot_plug_->block)},
                                 {"plugged_size_mib", number(held.device->plugged() >> 20)},
                                 {"requested_size_mib", number(held.device->requested() >> 20)}}));
}

MicrovmApi::Answer MicrovmApi::patch_hot_plug(const HttpRequest&, const Json& body) {
  uint32_t requested_mib = 0;
  Fields fields(body, "struct MemoryHotplugSizeUpdate", {"requested_size_mib"});
  fields.required("requested_size_mib", requested_mib);
  HOB_CHECK(body_of(fields.finish()));
  if (!hot_plug_) return prefixed(Answer(none()), "Memory hotplug config error");
  const auto refused = [](std::string_view why) {
    return fail(Code::kInvalid, "Memory hotplug config error: {}", why);
  };
  if (requested_mib > hot_plug_->total)
    return refused("Requested size must not be greater than total size");
  if (requested_mib % hot_plug_->block != 0)
    return refused("Requested size must be a multiple of block size");
  machine_->hold_hot_plug().device->request(uint64_t{requested_mib} << 20);
  return done();
}

}  // namespace hob::microvm
