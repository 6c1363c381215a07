// Operations on persistent memory, and how its bodies read.
#include <algorithm>

#include "microvm/api/answers.h"
#include "microvm/api/api.h"

namespace hob::microvm {

Result<void> MicrovmApi::set_pmem(PmemConfiguration pmem) {
  const auto same = std::ranges::find(pmems_, pmem.id, &PmemConfiguration::id);
  const auto root = std::ranges::find(pmems_, true, &PmemConfiguration::root);
  if (pmem.root && std::ranges::any_of(drives_, [](const auto& one) { return one.drive.root; }))
    return fail(Code::kInvalid,
                "Attempt to add pmem as a root device while the root device defined as a block "
                "device");
  if (pmem.root && root != pmems_.end() && root != same)
    return fail(Code::kInvalid, "A root pmem device already exist");
  if (same != pmems_.end()) {
    *same = std::move(pmem);
    return {};
  }
  HOB_CHECK(check_device_count());
  pmems_.push_back(std::move(pmem));
  return {};
}

Result<void> MicrovmApi::set_pmems(const Json& list) {
  if (list.is_null()) return {};
  const auto* entries = list.as<Json::Array>();
  if (entries == nullptr) return fail(Code::kInvalid, "`pmem` is no list");
  for (const Json& entry : *entries) {
    HOB_TRY(PmemConfiguration pmem, read_pmem(entry));
    HOB_CHECK(check_id(pmem.id));
    HOB_CHECK(prefixed(set_pmem(std::move(pmem)), "Pmem config error"));
  }
  return {};
}

MicrovmApi::Answer MicrovmApi::put_pmem(const HttpRequest& request, const Json& body) {
  HOB_TRY(PmemConfiguration pmem, body_of(read_pmem(body)));
  if (pmem.id != id_of(request.path))
    return fail(Code::kInvalid, "The id from the path does not match the id from the body!");
  if (machine_)
    return no_hot_plug(std::ranges::find(pmems_, pmem.id, &PmemConfiguration::id) != pmems_.end());
  HOB_CHECK(prefixed(set_pmem(std::move(pmem)), "Pmem config error"));
  return done();
}

MicrovmApi::Answer MicrovmApi::patch_pmem(const HttpRequest& request, const Json& body) {
  HOB_TRY(const PmemUpdate update, body_of(read_pmem_update(body)));
  if (update.id != id_of(request.path))
    return fail(Code::kInvalid, "The id from the path does not match the id from the body!");
  const auto pmem = std::ranges::find(pmems_, update.id, &PmemConfiguration::id);
  if (pmem == pmems_.end())
    return fail(Code::kInvalid, "Pmem config error: Device not found: {}", update.id);
  HOB_TRY(pmem->limit,
          prefixed(machine_->limit_pmem(update.id, update.limit), "Pmem config error"));
  return done();
}

}  // namespace hob::microvm
