// Operations on network interfaces.
#include <algorithm>

#include "microvm/api/answers.h"
#include "microvm/api/api.h"

namespace hob::microvm {
namespace {

constexpr uint16_t kMtuMin = 68;  // IPv4's

// Which of two interfaces' ids are meant.
Result<void> check_same(std::string_view path, std::string_view body) {
  if (path != body)
    return fail(Code::kInvalid,
                "The id from the path [{}] does not match the id from the body [{}]!", path, body);
  return {};
}

}  // namespace

Result<void> MicrovmApi::set_interface(NetworkInterface interface) {
  if (interface.mtu && *interface.mtu < kMtuMin)
    return fail(Code::kInvalid, "MTU {} is out of range [{}, 65535]", *interface.mtu, kMtuMin);
  const bool taken =
      interface.mac && std::ranges::any_of(interfaces_, [&](const auto& open) {
        return open.interface.mac == interface.mac && open.interface.id != interface.id;
      });
  if (taken)
    return fail(Code::kInvalid, "The MAC address is already in use: {}", show(*interface.mac));
  // The one of the same id goes first: it may have the same tap. The last one takes its place, as
  // in Firecracker.
  const auto same = std::ranges::find(interfaces_, interface.id,
                                      [](const auto& open) { return open.interface.id; });
  if (same != interfaces_.end()) {
    std::iter_swap(same, interfaces_.end() - 1);
    interfaces_.pop_back();
  }
  HOB_CHECK(check_device_count());
  HOB_TRY(Tap tap, context(Tap::open(interface.tap),
                           "Could not create the network device: Open tap device failed"));
  interfaces_.push_back({.interface = std::move(interface), .tap = std::move(tap)});
  return {};
}

Result<void> MicrovmApi::set_interfaces(const Json& list) {
  if (list.is_null()) return {};
  const auto* entries = list.as<Json::Array>();
  if (entries == nullptr) return fail(Code::kInvalid, "`network-interfaces` is no list");
  for (const Json& entry : *entries) {
    HOB_TRY(NetworkInterface interface, read_interface(entry));
    HOB_CHECK(prefixed(set_interface(std::move(interface)), "Network config error"));
  }
  return {};
}

MicrovmApi::Answer MicrovmApi::put_interface(const HttpRequest& request, const Json& body) {
  HOB_TRY(NetworkInterface interface, body_of(read_interface(body)));
  HOB_CHECK(check_same(id_of(request.path), interface.id));
  if (machine_)
    return no_hot_plug(std::ranges::any_of(
        interfaces_, [&](const auto& open) { return open.interface.id == interface.id; }));
  HOB_CHECK(prefixed(set_interface(std::move(interface)), "Network config error"));
  return done();
}

MicrovmApi::Answer MicrovmApi::patch_interface(const HttpRequest& request, const Json& body) {
  HOB_TRY(const InterfaceUpdate update, body_of(read_interface_update(body)));
  HOB_CHECK(check_same(id_of(request.path), update.id));
  HOB_TRY(const Net::Limits limits,
          prefixed(machine_->limit_interface(update.id, update.limits), "Network config error"));
  const auto open =
      std::ranges::find(interfaces_, update.id, [](const auto& one) { return one.interface.id; });
  open->interface.receive = limits.receive;
  open->interface.send = limits.send;
  return done();
}

}  // namespace hob::microvm
