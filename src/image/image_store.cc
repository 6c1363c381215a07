#include "image/image_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <ranges>
#include <set>
#include <shared_mutex>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "image/content_digest.h"
#include "image/pull_turns.h"
#include "image/puller.h"
#include "image/reference.h"

namespace hob::image {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

constexpr size_t kStoredImageBytesMax = 4 * 1024 * 1024;

// on_pool(), but a cancelled caller sets `abort`, which the work looks at.
template <class F>
Async<std::invoke_result_t<F>> on_pool_abortable(BlockingPool& pool,
                                                 std::shared_ptr<std::atomic<bool>> abort,
                                                 F function) {
  using R = std::invoke_result_t<F>;
  asio::cancellation_signal never;
  asio::cancellation_slot slot = (co_await asio::this_coro::cancellation_state).slot();
  if (slot.is_connected()) slot.assign([abort](asio::cancellation_type) { abort->store(true); });
  R result = co_await asio::co_spawn(
      pool.threads(), [](F body) -> Async<R> { co_return body(); }(std::move(function)),
      asio::bind_cancellation_slot(never.slot(), asio::use_awaitable));
  if (slot.is_connected()) slot.clear();
  co_return result;
}

// The same pull asked for twice is one; what tells them apart.
std::string pull_key(const PullRequest& request) {
  std::string text;
  for (const std::string* part : {&request.account, &request.registry, &request.repository,
                                  &request.reference, &request.username, &request.password}) {
    text += std::to_string(part->size()) + ":" + *part;
  }
  return digest_of(text + (request.plain_http ? "p" : "s"));
}

// Who has shown a registry that it may have what a record names. Not by the password: those of a
// token live for hours alone, and a task must start again while nobody can give a new one.
std::string source_key(const PullRequest& request) {
  std::string text;
  for (const std::string* part :
       {&request.account, &request.registry, &request.repository, &request.username}) {
    text += std::to_string(part->size()) + ":" + *part;
  }
  return std::string(digest_hex(digest_of(text)));
}

}  // namespace

class ImageStore::Impl {
 public:
  Impl(fs::path directory, BlockingPool& pool, PullSettings settings)
      : directory_(directory),
        pool_(pool),
        settings_(settings),
        layers_(std::make_shared<LayerStore>(directory)),
        downloads_(kPullsAtOnce) {}
  ~Impl() { downloads_.join(); }

  Async<Result<void>> open() {
    co_return co_await on_pool(pool_, [layers = layers_] { return layers->open(); });
  }

  Async<Result<LocalImage>> pull(PullRequest request) {
    HOB_CO_CHECK(check(request));
    const std::string key = pull_key(request);
    for (;;) {
      const auto running = pulls_.find(key);
      if (running == pulls_.end()) break;
      const std::shared_ptr<Running> shared = running->second;
      co_await shared->done.wait();
      if (shared->result) co_return *shared->result;
      // The one who pulled was cancelled; now somebody else does.
    }
    const auto mine = std::make_shared<Running>(co_await asio::this_coro::executor);
    pulls_[key] = mine;
    const Finally finally(*this, key, mine);
    Result<LocalImage> result = co_await pull_now(std::move(request));
    mine->result = result;
    co_return result;
  }

  Async<Result<void>> prune(std::vector<std::string> keep, Duration unused_for) {
    const auto work = [layers = layers_, directory = directory_, keep = std::move(keep),
                       unused_for] {
      return prune_now(*layers, directory, {keep.begin(), keep.end()}, unused_for);
    };
    co_return co_await on_pool(pool_, work);
  }

 private:
  struct Running {
    explicit Running(const Executor& executor) : done(executor) {}
    Event done;
    std::optional<Result<LocalImage>> result{};  // none once done: cancelled
  };

  struct Finally {  // also when the coroutine is cancelled
    Finally(Impl& store, const std::string& key, std::shared_ptr<Running> running)
        : store_(store), key_(key), running_(std::move(running)) {}
    ~Finally() {
      store_.pulls_.erase(key_);
      running_->done.set();
    }
    Finally(const Finally&) = delete;
    Finally& operator=(const Finally&) = delete;
    Impl& store_;
    const std::string& key_;
    std::shared_ptr<Running> running_;
  };

  static Result<void> check(const PullRequest& request) {
    if (!is_registry_name(request.registry) || !is_repository_name(request.repository) ||
        !(is_tag(request.reference) || is_digest(request.reference))) {
      return fail(Code::kInvalid, "'{}/{}' at '{}' is no image reference", request.registry,
                  request.repository, request.reference);
    }
    return {};
  }

  Async<Result<LocalImage>> pull_now(PullRequest request) {
    if (is_digest(request.reference)) {
      const auto look = [layers = layers_,
                         file = image_file(directory_, request.reference, source_key(request))] {
        return find(*layers, file);
      };
      std::optional<StoredImage> here = co_await on_pool(pool_, look);
      if (here) co_return local(*here);
    }
    PullTurns::Turn turn(turns_, request.registry, co_await asio::this_coro::executor);
    co_await turn.wait();
    const auto abort = std::make_shared<std::atomic<bool>>(false);
    const auto work = [layers = layers_, directory = directory_, settings = settings_, request,
                       abort] {
      return pull_and_record(*layers, directory, settings, request, *abort);
    };
    Result<PulledImage> pulled = co_await on_pool_abortable(downloads_, abort, work);
    co_await throw_if_cancelled();
    if (!pulled) co_return fail(std::move(pulled).error());
    for (const std::string& diff_id : pulled->fresh) {
      asio::post(pool_.threads(), [layers = layers_, diff_id] { layers->make_durable(diff_id); });
    }
    co_return local(pulled->image);
  }

  static Result<PulledImage> pull_and_record(LayerStore& layers, const fs::path& directory,
                                             const PullSettings& settings,
                                             const PullRequest& request,
                                             const std::atomic<bool>& abort) {
    const std::string source = source_key(request);
    const auto known = [&](const std::string& digest) {
      return find(layers, image_file(directory, digest, source));
    };
    HOB_TRY(PulledImage pulled, pull_image(request, settings, layers, known, abort));
    for (const std::string& digest : pulled.digests) {
      HOB_CHECK(
          write_file_durably(image_file(directory, digest, source), encode(pulled.image), 0600));
    }
    return pulled;
  }

  static fs::path image_file(const fs::path& directory, const std::string& digest,
                             const std::string& source) {
    return directory / "images" / (std::string(digest_hex(digest)) + "-" + source + ".json");
  }

  // The image, if it is here whole; that counts as a use of it.
  static std::optional<StoredImage> find(LayerStore& layers, const fs::path& file) {
    const std::shared_lock no_pruning(layers.pruning());
    const Result<std::string> text = read_file(file, kStoredImageBytesMax);
    if (!text) return std::nullopt;
    Result<StoredImage> image = decode_stored_image(*text);
    if (!image) {
      log::warn("an image's record is damaged; it will be pulled again",
                {{"file", file.string()}, {"error", image.error().message}});
      return std::nullopt;
    }
    for (const std::string& diff_id : image->diff_ids) {
      if (!layers.has(diff_id)) return std::nullopt;
    }
    ::utimensat(AT_FDCWD, file.c_str(), nullptr, 0);
    return std::move(*image);
  }

  LocalImage local(const StoredImage& image) const {
    LocalImage found{.digest = image.digest, .config = image.config};
    // Overlayfs refuses a directory that is listed twice. Of a layer that comes twice the upper one
    // alone gives the same tree: it overrides or hides again all that the lower one did.
    std::set<std::string> seen;
    for (const std::string& diff_id : image.diff_ids | std::views::reverse) {
      if (seen.insert(diff_id).second) found.layers.push_back(layers_->path(diff_id));
    }
    return found;
  }

  static Result<void> prune_now(LayerStore& layers, const fs::path& directory,
                                const std::set<std::string>& keep, Duration unused_for) {
    std::unique_lock alone(layers.pruning());
    std::set<std::string> wanted;  // layers
    std::error_code error;
    const auto now = fs::file_time_type::clock::now();
    for (fs::directory_iterator at(directory / "images", error), end; !error && at != end;
         at.increment(error)) {
      const Result<std::string> text = read_file(at->path(), kStoredImageBytesMax);
      const Result<StoredImage> image = text ? decode_stored_image(*text) : fail(text.error());
      const std::string name = at->path().stem().string();
      const std::string digest = std::string(kDigestPrefix) + name.substr(0, name.find('-'));
      std::error_code gone;
      const auto used = fs::last_write_time(at->path(), gone);
      const bool kept = image && (keep.contains(digest) || keep.contains(image->digest) ||
                                  now - used < unused_for);
      if (kept) {
        wanted.insert(image->diff_ids.begin(), image->diff_ids.end());
      } else {
        fs::remove(at->path(), gone);
      }
    }
    if (error) return fail(Code::kUnavailable, "listing images: {}", error.message());
    HOB_TRY(const std::vector<fs::path> taken, layers.take_others(wanted));
    alone.unlock();
    for (const fs::path& layer : taken) HOB_CHECK(remove_tree(layer));
    return {};
  }

  const fs::path directory_;
  BlockingPool& pool_;
  const PullSettings settings_;
  const std::shared_ptr<LayerStore> layers_;  // shared with work that outlives us on the pool
  std::map<std::string, std::shared_ptr<Running>> pulls_;
  PullTurns turns_{kPullsPerRegistry};
  BlockingPool downloads_;  // threads of their own: task starts need the others
};

ImageStore::ImageStore(fs::path directory, BlockingPool& pool)
    : ImageStore(std::move(directory), pool, {}) {}
ImageStore::ImageStore(fs::path directory, BlockingPool& pool, PullSettings settings)
    : impl_(std::make_unique<Impl>(std::move(directory), pool, settings)) {}
ImageStore::~ImageStore() = default;

Async<Result<void>> ImageStore::open() { return impl_->open(); }
Async<Result<LocalImage>> ImageStore::pull(PullRequest request) {
  return impl_->pull(std::move(request));
}
Async<Result<void>> ImageStore::prune(std::vector<std::string> keep, Duration unused_for) {
  return impl_->prune(std::move(keep), unused_for);
}

}  // namespace hob::image
