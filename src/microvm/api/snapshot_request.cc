#include "microvm/api/snapshot_request.h"

namespace hob::microvm {
namespace {

// Unknown fields are ignored, as Firecracker does here.
Result<std::vector<SnapshotLoading::Interface>> read_network_overrides(const Json& json) {
  std::vector<SnapshotLoading::Interface> overrides;
  const auto* list = json.as<Json::Array>();
  if (list == nullptr) return fail(Code::kInvalid, "invalid type: expected a sequence");
  for (const Json& entry : *list) {
    SnapshotLoading::Interface interface;
    Fields fields(entry, "struct NetworkOverride", {"iface_id", "host_dev_name"},
                  Fields::Unknown::kIgnored);
    fields.required("iface_id", interface.id);
    fields.required("host_dev_name", interface.tap);
    HOB_CHECK(fields.finish());
    overrides.push_back(std::move(interface));
  }
  return overrides;
}

// Either of the two ways to name the memory.
Result<void> read_backend(const Fields& fields, SnapshotLoading& loading) {
  const Json* backend = fields.find("mem_backend");
  const Json* file = fields.find("mem_file_path");
  const bool has_backend = backend != nullptr && !backend->is_null();
  const bool has_file = file != nullptr && !file->is_null();
  if (!has_backend && !has_file)
    return fail(Code::kInvalid,
                "missing field: either `mem_backend` or `mem_file_path` is required");
  if (has_backend && has_file)
    return fail(Code::kInvalid,
                "too many fields: either `mem_backend` or `mem_file_path` exclusively is required");
  if (!has_backend) return {};
  size_t type = 0;
  std::string word;
  Fields given(*backend, "struct MemBackendConfig", {"backend_type", "backend_path"});
  given.required("backend_type", word);
  given.variant("backend_type", {"File", "Uffd"}, type);
  given.required("backend_path", loading.memory_path);
  HOB_CHECK(given.finish());
  loading.handled = type == 1;
  return {};
}

}  // namespace

Result<SnapshotCreation> read_snapshot_creation(const Json& json) {
  SnapshotCreation creation;
  size_t kind = 0;
  Fields fields(json, "struct CreateSnapshotParams",
                {"snapshot_type", "snapshot_path", "mem_file_path"});
  fields.variant("snapshot_type", {"Full", "Diff"}, kind);
  fields.required("snapshot_path", creation.state_path);
  fields.required("mem_file_path", creation.memory_path);
  HOB_CHECK(fields.finish());
  creation.kind = kind == 0 ? SnapshotKind::kFull : SnapshotKind::kDiff;
  return creation;
}

Result<SnapshotLoading> read_snapshot_loading(const Json& json) {
  SnapshotLoading loading;
  bool diffs = false;
  std::optional<std::string> memory_path;
  Fields fields(json, "struct LoadSnapshotConfig",
                {"snapshot_path", "mem_backend", "mem_file_path", "enable_diff_snapshots",
                 "track_dirty_pages", "resume_vm", "network_overrides", "vsock_override",
                 "clock_realtime", "huge_pages"});
  fields.required("snapshot_path", loading.state_path);
  fields.optional("mem_file_path", memory_path);
  fields.defaulted("enable_diff_snapshots", diffs);
  fields.defaulted("track_dirty_pages", loading.track_dirty);
  fields.defaulted("resume_vm", loading.resume);
  fields.defaulted("clock_realtime", loading.clock_forward);
  if (fields.find("huge_pages") != nullptr) {
    size_t pages = 0;
    fields.variant("huge_pages", {"Snapshot", "None", "Transparent", "2M"}, pages);
    if (pages > 0) loading.huge_pages = static_cast<HugePages>(pages - 1);
  }
  HOB_CHECK(fields.finish());
  if (memory_path) loading.memory_path = *memory_path;
  HOB_CHECK(read_backend(fields, loading));
  if (const Json* overrides = fields.find("network_overrides")) {
    HOB_TRY(loading.interfaces, read_network_overrides(*overrides));
  }
  if (const Json* vsock = fields.find("vsock_override"); vsock != nullptr && !vsock->is_null()) {
    Fields given(*vsock, "struct VsockOverride", {"uds_path"}, Fields::Unknown::kIgnored);
    given.required("uds_path", loading.vsock_path.emplace());
    HOB_CHECK(given.finish());
  }
  loading.deprecated = memory_path.has_value() || diffs;
  loading.track_dirty = loading.track_dirty || diffs;
  return loading;
}

}  // namespace hob::microvm
