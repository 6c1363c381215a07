#include "image/puller.h"

#include <pthread.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <thread>

#include "base/file.h"
#include "image/content_digest.h"
#include "image/limits.h"

namespace hob::image {

namespace {

struct MissingLayer {
  Descriptor descriptor{};
  std::string diff_id{};
};

// Follows indexes to the manifest of our platform; `digests` gathers what was passed.
Result<FetchedManifest> find_manifest(RegistryClient& client, std::string reference,
                                      std::vector<std::string>& digests) {
  for (size_t depth = 0; depth <= kIndexDepthMax; ++depth) {
    HOB_TRY(FetchedManifest fetched, client.manifest(reference));
    digests.push_back(fetched.digest);
    if (!fetched.manifest.is_index) return fetched;
    const std::optional<Descriptor> chosen = choose_platform(fetched.manifest);
    if (!chosen) return fail(Code::kNotFound, "the image is not made for linux/amd64");
    reference = chosen->digest;
  }
  return fail(Code::kLimit, "the image's indexes are nested over {} deep", kIndexDepthMax);
}

Result<ParsedConfig> fetch_config(RegistryClient& client, const Manifest& manifest) {
  if (!is_config_type(manifest.config->media_type)) {
    return fail(Code::kInvalid, "it is no container image, but an artifact of type '{}'",
                manifest.artifact_type);
  }
  if (manifest.config->size > kConfigBytesMax) {
    return fail(Code::kLimit, "the image's config is over {} bytes", kConfigBytesMax);
  }
  HOB_TRY(const std::string text, client.blob(*manifest.config));
  HOB_TRY(ParsedConfig config, parse_config(text));
  if (!config.os.empty() && config.os != "linux")
    return fail(Code::kInvalid, "the image is for {}", config.os);
  if (!config.architecture.empty() && config.architecture != "amd64") {
    return fail(Code::kInvalid, "the image is for {}, this machine is amd64", config.architecture);
  }
  if (config.diff_ids.size() != manifest.layers.size()) {
    return fail(Code::kCorrupt, "the manifest lists {} layers, the config {}",
                manifest.layers.size(), config.diff_ids.size());
  }
  for (const Descriptor& layer : manifest.layers) {
    if (!is_layer_type(layer.media_type)) {
      return fail(Code::kInvalid, "layers of type '{}' cannot be unpacked", layer.media_type);
    }
  }
  return config;
}

// Takes layers from a list, on several threads, until all are here or one failed.
class LayerFetch {
 public:
  LayerFetch(const PullRequest& request, const PullSettings& settings, LayerStore& store,
             RegistryLogin& login, const std::atomic<bool>& abort,
             std::vector<MissingLayer> missing)
      : request_(request),
        settings_(settings),
        store_(store),
        login_(login),
        outer_abort_(abort),
        missing_(std::move(missing)) {}

  Result<void> run() {
    {
      std::vector<std::jthread> helpers;
      for (size_t i = 1; i < std::min(kLayersAtOnce, missing_.size()); ++i) {
        helpers.emplace_back([this] {
          pthread_setname_np(pthread_self(), "hob-pull");
          work();
        });
      }
      work();
    }
    return failure_ ? fail(*failure_) : Result<void>();
  }

  const std::vector<std::string>& fresh() const { return fresh_; }

 private:
  void work() {
    RegistryClient client(request_, settings_.timeouts, login_, outer_abort_);
    for (size_t mine = next_++; mine < missing_.size() && !stopped_; mine = next_++) {
      const Result<void> done = take(client, missing_[mine]);
      if (done) continue;
      const std::scoped_lock lock(mutex_);
      if (!failure_) failure_ = done.error();
      stopped_ = true;
    }
  }

  Result<void> take(RegistryClient& client, const MissingLayer& layer) {
    const LayerStore::Claim claim(store_, layer.diff_id);
    if (store_.has(layer.diff_id)) return {};  // another pull brought it meanwhile
    HOB_TRY(const std::filesystem::path temporary, store_.make_temporary());
    const Result<void> unpacked = unpack(client, layer, temporary);
    if (!unpacked) {
      static_cast<void>(remove_tree(temporary));  // what is left goes at the next start
      return unpacked;
    }
    HOB_CHECK(store_.place(temporary, layer.diff_id));
    const std::scoped_lock lock(mutex_);
    fresh_.push_back(layer.diff_id);
    return {};
  }

  Result<void> unpack(RegistryClient& client, const MissingLayer& layer,
                      const std::filesystem::path& directory) {
    // One thread's failure ends the others between two pieces.
    class Stoppable final : public ByteSource {
     public:
      Stoppable(ByteSource& source, const std::atomic<bool>& stopped)
          : source_(source), stopped_(stopped) {}
      Result<std::string_view> read() override {
        if (stopped_) return fail(Code::kCancelled, "another layer failed");
        return source_.read();
      }

     private:
      ByteSource& source_;
      const std::atomic<bool>& stopped_;
    };
    const std::unique_ptr<ByteSource> blob = client.open_blob(layer.descriptor);
    Stoppable source(*blob, stopped_);
    UnpackLimits limits = settings_.limits;
    limits.bytes_max =
        std::min(limits.bytes_max, kImageBytesMax - std::min(kImageBytesMax, bytes_.load()));
    HOB_TRY(const UnpackedLayer unpacked, unpack_layer(source, directory, limits));
    bytes_ += unpacked.bytes;
    if (unpacked.digest != layer.descriptor.digest) {
      return fail(Code::kCorrupt, "the layer asked for as {} has digest {}",
                  layer.descriptor.digest, unpacked.digest);
    }
    if (unpacked.diff_id != layer.diff_id) {
      return fail(Code::kCorrupt, "the layer {} unpacks to {}, but the image's config says {}",
                  layer.descriptor.digest, unpacked.diff_id, layer.diff_id);
    }
    return {};
  }

  const PullRequest& request_;
  const PullSettings& settings_;
  LayerStore& store_;
  RegistryLogin& login_;
  const std::atomic<bool>& outer_abort_;
  const std::vector<MissingLayer> missing_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> stopped_ = false;
  std::atomic<uint64_t> bytes_ = 0;
  std::mutex mutex_;  // the two below
  std::optional<Error> failure_;
  std::vector<std::string> fresh_;
};

}  // namespace

Result<PulledImage> pull_image(const PullRequest& request, const PullSettings& settings,
                               LayerStore& layers, const KnownImage& known,
                               const std::atomic<bool>& abort) {
  RegistryLogin login;
  RegistryClient client(request, settings.timeouts, login, abort);
  PulledImage pulled;
  HOB_TRY(const FetchedManifest fetched, find_manifest(client, request.reference, pulled.digests));
  if (std::optional<StoredImage> here = known(fetched.digest)) {
    pulled.image = std::move(*here);
    pulled.use = std::make_unique<LayerStore::Use>(layers, pulled.image.diff_ids);
    const auto is_here = [&](const std::string& diff_id) { return layers.has(diff_id); };
    if (std::ranges::all_of(pulled.image.diff_ids, is_here)) return pulled;
  }
  HOB_TRY(ParsedConfig config, fetch_config(client, fetched.manifest));
  pulled.image = {
      .digest = fetched.digest, .config = std::move(config.config), .diff_ids = config.diff_ids};
  pulled.use = std::make_unique<LayerStore::Use>(layers, config.diff_ids);
  std::vector<MissingLayer> missing;
  std::set<std::string> seen;
  for (size_t i = 0; i < config.diff_ids.size(); ++i) {
    if (!seen.insert(config.diff_ids[i]).second || layers.has(config.diff_ids[i])) continue;
    missing.push_back({.descriptor = fetched.manifest.layers[i], .diff_id = config.diff_ids[i]});
  }
  LayerFetch fetch(request, settings, layers, login, abort, std::move(missing));
  HOB_CHECK(fetch.run());
  pulled.fresh = fetch.fresh();
  return pulled;
}

}  // namespace hob::image
