#include "image/manifest.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

#include "image/content_digest.h"
#include "image/limits.h"

namespace hob::image {

namespace json = boost::json;

namespace {

constexpr size_t kJsonDepthMax = 32;
constexpr size_t kErrorTextCharsMax = 200;

constexpr std::array kLayerTypes = {
    std::string_view("application/vnd.oci.image.layer.v1.tar"),
    std::string_view("application/vnd.oci.image.layer.v1.tar+gzip"),
    std::string_view("application/vnd.oci.image.layer.v1.tar+zstd"),
    std::string_view("application/vnd.oci.image.layer.nondistributable.v1.tar"),
    std::string_view("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
    std::string_view("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"),
    std::string_view("application/vnd.docker.image.rootfs.diff.tar"),
    std::string_view("application/vnd.docker.image.rootfs.diff.tar.gzip"),
    std::string_view("application/vnd.docker.image.rootfs.diff.tar.zstd"),
};
constexpr std::array kConfigTypes = {
    std::string_view("application/vnd.oci.image.config.v1+json"),
    std::string_view("application/vnd.docker.container.image.v1+json"),
};

Result<json::object> parse_object(std::string_view text, size_t bytes_max, std::string_view what) {
  if (text.size() > bytes_max)
    return fail(Code::kLimit, "the {} is over {} bytes", what, bytes_max);
  json::parse_options options;
  options.max_depth = kJsonDepthMax;
  json::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error) return fail(Code::kInvalid, "the {} is not JSON: {}", what, error.message());
  if (!value.is_object()) return fail(Code::kInvalid, "the {} is not a JSON object", what);
  return std::move(value.get_object());
}

// The member as a string; null counts as absent. kInvalid: something else.
Result<std::string> string_member(const json::object& object, std::string_view name) {
  const json::value* member = object.if_contains(name);
  if (member == nullptr || member->is_null()) return std::string();
  if (!member->is_string()) return fail(Code::kInvalid, "{} is not a string", name);
  return std::string(member->get_string());
}

Result<const json::object*> object_member(const json::object& object, std::string_view name) {
  const json::value* member = object.if_contains(name);
  if (member == nullptr || member->is_null()) return nullptr;
  if (!member->is_object()) return fail(Code::kInvalid, "{} is not an object", name);
  return &member->get_object();
}

Result<const json::array*> array_member(const json::object& object, std::string_view name) {
  const json::value* member = object.if_contains(name);
  if (member == nullptr || member->is_null()) return nullptr;
  if (!member->is_array()) return fail(Code::kInvalid, "{} is not a list", name);
  return &member->get_array();
}

Result<std::vector<std::string>> strings_member(const json::object& object, std::string_view name) {
  HOB_TRY(const json::array* list, array_member(object, name));
  std::vector<std::string> strings;
  if (list == nullptr) return strings;
  if (list->size() > kConfigListMax)
    return fail(Code::kLimit, "{} has over {} items", name, kConfigListMax);
  for (const json::value& item : *list) {
    if (!item.is_string())
      return fail(Code::kInvalid, "{} holds something that is not a string", name);
    strings.emplace_back(item.get_string());
  }
  return strings;
}

Result<std::map<std::string, std::string>> map_member(const json::object& object,
                                                      std::string_view name) {
  HOB_TRY(const json::object* map, object_member(object, name));
  std::map<std::string, std::string> entries;
  if (map == nullptr) return entries;
  if (map->size() > kConfigListMax)
    return fail(Code::kLimit, "{} has over {} items", name, kConfigListMax);
  for (const auto& [key, value] : *map) {
    if (!value.is_string())
      return fail(Code::kInvalid, "{} holds something that is not a string", name);
    entries.emplace(key, value.get_string());
  }
  return entries;
}

Result<Descriptor> parse_descriptor(const json::object& object) {
  Descriptor descriptor;
  HOB_TRY(descriptor.media_type, string_member(object, "mediaType"));
  HOB_TRY(descriptor.digest, string_member(object, "digest"));
  HOB_TRY(descriptor.artifact_type, string_member(object, "artifactType"));
  if (!is_digest(descriptor.digest)) {
    return fail(Code::kInvalid,
                "a descriptor's digest is not sha256: and 64 lower-case hex digits");
  }
  const json::value* size = object.if_contains("size");
  json::error_code error;
  if (size == nullptr || !size->is_number())
    return fail(Code::kInvalid, "a descriptor has no size");
  descriptor.size = size->to_number<uint64_t>(error);
  if (error) return fail(Code::kInvalid, "a descriptor's size is no whole number of bytes");
  if (descriptor.size > kBlobBytesMax) {
    return fail(Code::kLimit, "a blob of {} bytes, at most {}", descriptor.size, kBlobBytesMax);
  }
  HOB_TRY(const json::object* platform, object_member(object, "platform"));
  if (platform != nullptr) {
    HOB_TRY(descriptor.os, string_member(*platform, "os"));
    HOB_TRY(descriptor.architecture, string_member(*platform, "architecture"));
    HOB_TRY(descriptor.variant, string_member(*platform, "variant"));
  }
  return descriptor;
}

Result<std::vector<Descriptor>> descriptors_member(const json::object& object,
                                                   std::string_view name, size_t count_max) {
  HOB_TRY(const json::array* list, array_member(object, name));
  if (list == nullptr) return fail(Code::kInvalid, "there is no {}", name);
  if (list->size() > count_max)
    return fail(Code::kLimit, "{} {}, at most {}", list->size(), name, count_max);
  std::vector<Descriptor> descriptors;
  for (const json::value& item : *list) {
    if (!item.is_object())
      return fail(Code::kInvalid, "{} holds something that is not a descriptor", name);
    HOB_TRY(Descriptor descriptor, context(parse_descriptor(item.get_object()), "{}", name));
    descriptors.push_back(std::move(descriptor));
  }
  return descriptors;
}

// A document that is both an index and a manifest would mean different things to different readers
// (CVE-2021-41190).
Result<std::string> decide_media_type(const json::object& object, std::string_view told) {
  HOB_TRY(const std::string own, string_member(object, "mediaType"));
  const std::string_view type = told.empty() ? std::string_view(own) : told;
  if (!own.empty() && own != type) {
    return fail(Code::kInvalid, "the manifest calls itself {} but came as {}", own, type);
  }
  const bool has_layers = object.contains("layers") || object.contains("config");
  const bool has_manifests = object.contains("manifests");
  if (has_layers && has_manifests)
    return fail(Code::kInvalid, "the manifest is an index and an image at once");
  if (type.empty()) return std::string(has_manifests ? kOciIndex : kOciManifest);
  if (type.starts_with("application/vnd.docker.distribution.manifest.v1+")) {
    return fail(
        Code::kInvalid,
        "the manifest is of Docker's old schema 1; push the image again with a current tool");
  }
  if (type != kOciManifest && type != kOciIndex && type != kDockerManifest && type != kDockerList) {
    return fail(Code::kInvalid, "manifests of type '{}' are not taken", type);
  }
  return std::string(type);
}

std::string printable(std::string_view text) {
  std::string clean;
  for (const char c : text.substr(0, kErrorTextCharsMax)) {
    const auto byte = static_cast<unsigned char>(c);
    clean.push_back(byte >= 0x20 && byte < 0x7f ? c : '?');
  }
  return clean;
}

}  // namespace

Result<Manifest> parse_manifest(std::string_view text, std::string_view media_type) {
  HOB_TRY(const json::object object, parse_object(text, kManifestBytesMax, "manifest"));
  const json::value* version = object.if_contains("schemaVersion");
  if (version == nullptr || !version->is_int64() || version->get_int64() != 2) {
    return fail(Code::kInvalid, "the manifest's schemaVersion is not 2");
  }
  Manifest manifest;
  HOB_TRY(manifest.media_type, decide_media_type(object, media_type));
  manifest.is_index = manifest.media_type == kOciIndex || manifest.media_type == kDockerList;
  HOB_TRY(manifest.artifact_type, string_member(object, "artifactType"));
  HOB_TRY(manifest.annotations, map_member(object, "annotations"));
  HOB_TRY(const json::object* subject, object_member(object, "subject"));
  if (subject != nullptr) {
    HOB_TRY(const Descriptor of, context(parse_descriptor(*subject), "subject"));
    manifest.subject = of.digest;
  }
  if (manifest.is_index) {
    HOB_TRY(manifest.manifests, descriptors_member(object, "manifests", kIndexEntriesMax));
    return manifest;
  }
  HOB_TRY(const json::object* config, object_member(object, "config"));
  if (config == nullptr) return fail(Code::kInvalid, "the manifest has no config");
  HOB_TRY(manifest.config, context(parse_descriptor(*config), "config"));
  HOB_TRY(manifest.layers, descriptors_member(object, "layers", kLayersMax));
  if (manifest.artifact_type.empty()) manifest.artifact_type = manifest.config->media_type;
  return manifest;
}

std::optional<Descriptor> choose_platform(const Manifest& index) {
  for (const Descriptor& entry : index.manifests) {
    // Variants of amd64 are newer instruction sets (v2, v3): the plain one runs everywhere.
    const bool plain = entry.variant.empty() || entry.variant == "v1";
    if (entry.os == "linux" && entry.architecture == "amd64" && plain) return entry;
  }
  // An index that gives no platforms and has one entry means that entry.
  if (index.manifests.size() == 1 && index.manifests[0].os.empty()) return index.manifests[0];
  return std::nullopt;
}

bool is_layer_type(std::string_view media_type) {
  return std::ranges::find(kLayerTypes, media_type) != kLayerTypes.end();
}

bool is_config_type(std::string_view media_type) {
  return std::ranges::find(kConfigTypes, media_type) != kConfigTypes.end();
}

Result<ParsedConfig> parse_config(std::string_view text) {
  HOB_TRY(const json::object object, parse_object(text, kConfigBytesMax, "image's config"));
  ParsedConfig parsed;
  HOB_TRY(parsed.os, string_member(object, "os"));
  HOB_TRY(parsed.architecture, string_member(object, "architecture"));
  HOB_TRY(const json::object* rootfs, object_member(object, "rootfs"));
  if (rootfs == nullptr) return fail(Code::kInvalid, "the image's config has no rootfs");
  HOB_TRY(parsed.diff_ids, strings_member(*rootfs, "diff_ids"));
  if (parsed.diff_ids.size() > kLayersMax) {
    return fail(Code::kLimit, "{} layers, at most {}", parsed.diff_ids.size(), kLayersMax);
  }
  for (const std::string& diff_id : parsed.diff_ids) {
    if (!is_digest(diff_id))
      return fail(Code::kInvalid, "a diff_id of the image's config is no sha256 digest");
  }
  HOB_TRY(const json::object* run, object_member(object, "config"));
  if (run == nullptr) return parsed;
  HOB_TRY(parsed.config.entry_point, strings_member(*run, "Entrypoint"));
  HOB_TRY(parsed.config.command, strings_member(*run, "Cmd"));
  HOB_TRY(parsed.config.environment, strings_member(*run, "Env"));
  HOB_TRY(parsed.config.user, string_member(*run, "User"));
  HOB_TRY(parsed.config.working_directory, string_member(*run, "WorkingDir"));
  HOB_TRY(parsed.config.stop_signal, string_member(*run, "StopSignal"));
  HOB_TRY(parsed.labels, map_member(*run, "Labels"));
  HOB_TRY(const json::object* volumes, object_member(*run, "Volumes"));
  HOB_TRY(const json::object* ports, object_member(*run, "ExposedPorts"));
  if ((volumes != nullptr && volumes->size() > kConfigListMax) ||
      (ports != nullptr && ports->size() > kConfigListMax)) {
    return fail(Code::kLimit, "the image's config lists over {} volumes or ports", kConfigListMax);
  }
  if (volumes != nullptr) {
    for (const auto& volume : *volumes) parsed.config.volumes.emplace_back(volume.key());
  }
  if (ports != nullptr) {
    for (const auto& exposed :
         *ports) {  // "80/tcp", "80"; "53/udp" and ranges say nothing about HTTP
      std::string_view port = exposed.key();
      if (port.ends_with("/tcp")) port.remove_suffix(4);
      if (port.empty() || port.size() > 5 ||
          port.find_first_not_of("0123456789") != std::string_view::npos)
        continue;
      const int number = std::stoi(std::string(port));
      if (number >= 1 && number <= 65535)
        parsed.exposed_tcp_ports.push_back(static_cast<uint16_t>(number));
    }
    std::ranges::sort(parsed.exposed_tcp_ports);
  }
  return parsed;
}

std::string registry_error_text(std::string_view body) {
  const auto object = parse_object(body, kManifestBytesMax, "answer");
  if (!object) return {};
  const json::value* errors = object->if_contains("errors");
  if (errors == nullptr || !errors->is_array() || errors->get_array().empty()) return {};
  const json::value& first = errors->get_array().front();
  if (!first.is_object()) return {};
  const std::string code = string_member(first.get_object(), "code").value_or("");
  const std::string message = string_member(first.get_object(), "message").value_or("");
  return printable(code.empty() ? message : message.empty() ? code : code + ": " + message);
}

std::string registry_token(std::string_view body) {
  const auto object = parse_object(body, kManifestBytesMax, "token service's answer");
  if (!object) return {};
  std::string token = string_member(*object, "token").value_or("");
  if (token.empty()) token = string_member(*object, "access_token").value_or("");
  // It becomes a header field, so it must be one.
  const bool clean = std::ranges::all_of(token, [](char c) { return c > 0x20 && c < 0x7f; });
  return clean ? token : std::string();
}

}  // namespace hob::image
