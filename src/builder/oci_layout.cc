#include "builder/oci_layout.h"

#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>

#include "base/digest.h"
#include "base/file.h"
#include "image/content_digest.h"
#include "image/manifest.h"
#include "sandbox/task_files.h"

namespace hob::builder {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";
constexpr const char* kEmptyType = "application/vnd.oci.empty.v1+json";
const std::string kEmpty = "{}";
constexpr const char* kCreated = "1980-01-01T00:00:00Z";  // kLayerTime

Result<void> link_or_copy(const fs::path& from, const fs::path& to) {
  if (::link(from.c_str(), to.c_str()) == 0 || errno == EEXIST) return {};
  std::error_code error;
  fs::copy_file(from, to, error);
  if (error) return fail(Code::kUnavailable, "copying to {}: {}", to.string(), error.message());
  return {};
}

json::value config_of(const ImagePlan& plan) {
  json::array environment;
  for (const auto& [name, value] : plan.environment) environment.emplace_back(name + "=" + value);
  json::array command;
  for (const std::string& word : plan.command) command.emplace_back(word);
  json::object labels;
  for (const auto& [name, value] : plan.labels) labels[name] = value;
  json::array diff_ids;
  json::array history;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    diff_ids.emplace_back(plan.layers[i].diff_id);
    history.push_back(json::object{{"created", kCreated}, {"created_by", plan.history[i]}});
  }
  return {{"created", kCreated},
          {"architecture", "amd64"},
          {"os", "linux"},
          {"config",
           {{"Env", std::move(environment)},
            {"Cmd", std::move(command)},
            {"WorkingDir", plan.working_directory},
            {"ExposedPorts", json::object{{std::to_string(plan.port) + "/tcp", json::object{}}}},
            {"Labels", std::move(labels)}}},
          {"rootfs", {{"type", "layers"}, {"diff_ids", std::move(diff_ids)}}},
          {"history", std::move(history)}};
}

json::object descriptor(std::string_view type, std::string_view digest, uint64_t size) {
  return {{"mediaType", type}, {"digest", digest}, {"size", size}};
}

}  // namespace

Result<ImageFiles> write_layout(const ImagePlan& plan, const Attest& attest,
                                const BuildStore& store, const fs::path& directory) {
  const fs::path blobs = directory / "blobs" / "sha256";
  HOB_CHECK(make_directories(blobs, 0755));
  const auto put = [&](const std::string& text) -> Result<std::string> {
    std::string digest = image::digest_of(text);
    HOB_CHECK(sandbox::write_task_file(blobs / image::digest_hex(digest), text, 0));
    return digest;
  };
  ImageFiles made;
  json::array layers;
  for (const Layer& layer : plan.layers) {
    HOB_CHECK(link_or_copy(store.blob(layer), blobs / image::digest_hex(layer.digest)));
    layers.push_back(descriptor(kLayerMediaType, layer.digest, layer.size));
    made.size += layer.size;
  }
  const std::string config = json::serialize(config_of(plan));
  HOB_TRY(const std::string config_digest, put(config));
  json::object annotations;
  for (const auto& [name, value] : plan.labels) annotations[name] = value;
  const std::string manifest = json::serialize(
      json::object{{"schemaVersion", 2},
                   {"mediaType", image::kOciManifest},
                   {"config", descriptor(kConfigType, config_digest, config.size())},
                   {"layers", std::move(layers)},
                   {"annotations", std::move(annotations)}});
  HOB_TRY(made.digest, put(manifest));
  const json::object image = descriptor(image::kOciManifest, made.digest, manifest.size());
  json::array all = {image};
  all.front().as_object()["platform"] = json::object{{"architecture", "amd64"}, {"os", "linux"}};
  HOB_TRY(const std::string empty, put(kEmpty));
  for (const Attestation& each : attest(made.digest)) {
    HOB_TRY(const std::string content, put(each.text));
    const std::string referrer = json::serialize(
        json::object{{"schemaVersion", 2},
                     {"mediaType", image::kOciManifest},
                     {"artifactType", each.type},
                     {"config", descriptor(kEmptyType, empty, kEmpty.size())},
                     {"layers", json::array{descriptor(each.type, content, each.text.size())}},
                     {"subject", image}});
    HOB_TRY(const std::string digest, put(referrer));
    json::object described = descriptor(image::kOciManifest, digest, referrer.size());
    described["artifactType"] = each.type;
    described["platform"] = json::object{{"architecture", "unknown"}, {"os", "unknown"}};
    all.push_back(std::move(described));
  }
  const auto index_of = [](json::array manifests) {
    return json::serialize(json::object{{"schemaVersion", 2},
                                        {"mediaType", image::kOciIndex},
                                        {"manifests", std::move(manifests)}});
  };
  const std::string inner = index_of(std::move(all));
  HOB_TRY(const std::string inner_digest, put(inner));
  const std::string index = index_of({descriptor(image::kOciIndex, inner_digest, inner.size())});
  HOB_CHECK(sandbox::write_task_file(directory / "index.json", index, 0));
  HOB_CHECK(
      sandbox::write_task_file(directory / "oci-layout", R"({"imageLayoutVersion":"1.0.0"})", 0));
  return made;
}

}  // namespace hob::builder
