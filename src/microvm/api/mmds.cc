// Operations on the guest's metadata.
#include <algorithm>

#include "microvm/api/answers.h"
#include "microvm/api/api.h"

namespace hob::microvm {
namespace {

// 169.254.1.0 to 169.254.254.255: RFC 3927 keeps the first and last 256.
bool link_local(const Ipv4Address& address) {
  return address[0] == 169 && address[1] == 254 && address[2] >= 1 && address[2] <= 254;
}

std::unexpected<Error> not_initialized() {
  return fail(Code::kInvalid, "The MMDS data store is not initialized.");
}

}  // namespace

Metadata* MicrovmApi::metadata() {
  if (!metadata_ && !machine_) metadata_ = std::make_unique<Metadata>(id_, mmds_bytes_max_);
  return metadata_.get();
}

Result<void> MicrovmApi::set_metadata(std::string_view json) {
  HOB_TRY(Json document, Json::parse(json));
  return metadata()->put(std::move(document));
}

Result<void> MicrovmApi::set_mmds(MmdsConfiguration mmds) {
  if (mmds.interfaces.empty())
    return fail(Code::kInvalid,
                "The list of network interface IDs that allow forwarding MMDS requests is empty.");
  const bool known = std::ranges::all_of(mmds.interfaces, [&](const std::string& id) {
    return std::ranges::any_of(interfaces_,
                               [&](const auto& open) { return open.interface.id == id; });
  });
  if (!known)
    return fail(Code::kInvalid,
                "The list of network interface IDs provided contains at least one ID that does not "
                "correspond to any existing network interface.");
  if (!link_local(mmds.address))
    return fail(Code::kInvalid, "The MMDS IPv4 address is not link local.");
  metadata()->version = mmds.version;
  metadata()->text_always = mmds.imds_compat;
  mmds_ = std::move(mmds);
  return {};
}

std::unique_ptr<FrameResponder> MicrovmApi::responder_of(const NetworkInterface& interface) {
  const bool chosen =
      mmds_ && std::ranges::find(mmds_->interfaces, interface.id) != mmds_->interfaces.end();
  if (!chosen) return nullptr;
  auto stack =
      std::make_unique<MetadataStack>(*metadata_, mmds_->address, &std::chrono::steady_clock::now);
  stacks_.push_back(stack.get());
  return stack;
}

MicrovmApi::Answer MicrovmApi::get_mmds(const HttpRequest&, const Json&) {
  const Metadata* store = metadata();
  if (store == nullptr) return prefixed(Answer(not_initialized()), "MMDS error");
  return shown(store->document().is_null() ? Json(Json::Object{}) : store->document());
}

MicrovmApi::Answer MicrovmApi::put_mmds(const HttpRequest&, const Json& body) {
  Metadata* store = metadata();
  if (store == nullptr) return prefixed(Answer(not_initialized()), "MMDS error");
  HOB_CHECK(prefixed(store->put(body), "MMDS limit exceeded error"));
  return done();
}

MicrovmApi::Answer MicrovmApi::patch_mmds(const HttpRequest&, const Json& body) {
  Metadata* store = metadata();
  if (store == nullptr || !store->initialized())
    return prefixed(Answer(not_initialized()), "MMDS error");
  HOB_CHECK(prefixed(store->patch(body), "MMDS limit exceeded error"));
  return done();
}

MicrovmApi::Answer MicrovmApi::put_mmds_config(const HttpRequest&, const Json& body) {
  HOB_TRY(MmdsConfiguration mmds, body_of(read_mmds(body)));
  const bool deprecated = mmds.version == MmdsVersion::kV1;
  auto set = prefixed(set_mmds(std::move(mmds)), "MMMDS config error");
  HttpResponse response = set ? done() : fault(400, set.error().message);
  response.deprecated = deprecated;
  return response;
}

}  // namespace hob::microvm
