// Blobs and uploads of the registry.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "image/content_digest.h"
#include "image/limits.h"
#include "image/reference.h"
#include "image/registry_exchange.h"

namespace hob::image {

namespace {

constexpr size_t kSendBytes = 256 * 1024;

http::Headers upload_headers(const std::string& name, const Upload& upload) {
  http::Headers headers;
  headers.set("Location", fmt::format("/v2/{}/blobs/uploads/{}", name, upload.id));
  headers.set("Range", fmt::format("0-{}", upload.size == 0 ? 0 : upload.size - 1));
  headers.set("Docker-Upload-UUID", upload.id);
  return headers;
}

http::Headers blob_headers(const std::string& name, const std::string& digest) {
  http::Headers headers;
  headers.set("Location", fmt::format("/v2/{}/blobs/{}", name, digest));
  headers.set("Docker-Content-Digest", digest);
  return headers;
}

}  // namespace

Async<Result<void>> Registry::blob(Exchange& exchange) {
  const std::string digest = exchange.route.reference;
  if (!is_digest(digest))
    co_return co_await exchange.refuse(400, "DIGEST_INVALID", "it is no sha256 digest");
  const auto home = co_await repository(exchange);
  if (!home) co_return co_await exchange.refuse(home.error());
  if (exchange.request.method == "DELETE") {
    const auto removed = co_await repositories_.unlink_blob(*home, digest);
    if (!removed) co_return co_await exchange.refuse(removed.error());
    if (!*removed)
      co_return co_await exchange.refuse(404, "BLOB_UNKNOWN",
                                         "there is no such blob in the repository");
    co_return co_await exchange.answer(202);
  }
  if (!exchange.reads())
    co_return co_await exchange.refuse(405, "UNSUPPORTED", "only GET, HEAD and DELETE");
  const auto size = co_await repositories_.blob_size(*home, digest);
  if (!size) co_return co_await exchange.refuse(size.error());
  if (!*size)
    co_return co_await exchange.refuse(404, "BLOB_UNKNOWN",
                                       "there is no such blob in the repository");
  co_return co_await send_blob(exchange, digest, **size);
}

Async<Result<void>> Registry::send_blob(Exchange& exchange, std::string digest, uint64_t size) {
  http::Headers headers;
  headers.set("Content-Type", "application/octet-stream");
  headers.set("Docker-Content-Digest", digest);
  headers.set("Docker-Distribution-Api-Version", "registry/2.0");
  headers.set("Accept-Ranges", "bytes");
  headers.set("ETag", "\"" + digest + "\"");
  if (exchange.request.method == "HEAD") {
    HOB_CO_CHECK(co_await exchange.responder.begin(200, std::move(headers), size));
    co_return co_await exchange.responder.end();
  }
  ByteRange range{.first = 0, .last = size == 0 ? 0 : size - 1};
  const RangeKind kind = parse_range(exchange.request.headers.get("Range"), size, range);
  if (kind == RangeKind::kUnsatisfiable) {
    http::Headers wrong;
    wrong.set("Content-Range", fmt::format("bytes */{}", size));
    co_return co_await exchange.refuse(416, "SIZE_INVALID", "the range is outside of the blob",
                                       std::move(wrong));
  }
  const auto open = [path = repositories_.blobs().path(digest),
                     digest]() -> Result<std::shared_ptr<Fd>> {
    auto file = std::make_shared<Fd>(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!*file) return fail_errno(errno, "opening the blob " + digest);
    return file;
  };
  const auto file = co_await on_pool(pool_, open);
  if (!file)
    co_return co_await exchange.refuse(
        Error{.code = Code::kInternal, .message = file.error().message});
  uint64_t left = size == 0 ? 0 : range.last - range.first + 1;
  if (kind == RangeKind::kPart) {
    headers.set("Content-Range", fmt::format("bytes {}-{}/{}", range.first, range.last, size));
  }
  HOB_CO_CHECK(co_await exchange.responder.begin(kind == RangeKind::kPart ? 206 : 200,
                                                 std::move(headers), left));
  for (uint64_t at = range.first; left > 0;) {
    const auto read = [handle = *file, at,
                       want = static_cast<size_t>(
                           std::min<uint64_t>(left, kSendBytes))]() -> Result<std::string> {
      std::string piece(want, '\0');
      const ssize_t got = ::pread(handle->get(), piece.data(), want, static_cast<off_t>(at));
      if (got <= 0) return fail_errno(got < 0 ? errno : EIO, "reading a blob");
      piece.resize(static_cast<size_t>(got));
      return piece;
    };
    // A failure from here on shows the client a body that is too short.
    HOB_CO_TRY(std::string piece, co_await on_pool(pool_, read));
    at += piece.size();
    left -= piece.size();
    HOB_CO_CHECK(co_await exchange.responder.write(std::move(piece)));
  }
  co_return co_await exchange.responder.end();
}

Async<Result<void>> Registry::start_upload(Exchange& exchange) {
  if (exchange.request.method != "POST")
    co_return co_await exchange.refuse(405, "UNSUPPORTED", "only POST");
  const auto home = co_await repository(exchange);
  if (!home) co_return co_await exchange.refuse(home.error());
  const std::string account = exchange.caller.account;
  const std::string mount = exchange.parameter("mount");
  const std::string from = exchange.parameter("from");
  if (is_digest(mount) && is_repository_name(from)) {
    const BlobStore::Pin pin(repositories_.blobs(), mount);
    const auto source = co_await repositories_.get(account, from);
    Result<std::optional<uint64_t>> size = std::nullopt;
    if (source) size = co_await repositories_.blob_size(*source, mount);
    if (!size) co_return co_await exchange.refuse(size.error());
    if (*size) {
      const auto linked = co_await repositories_.link_blob(*home, mount, **size);
      if (!linked) co_return co_await exchange.refuse(linked.error());
      co_return co_await exchange.answer(201, blob_headers(home->name, mount));
    }
    // Not there: the specification turns it into an ordinary upload.
  }
  const std::string digest = exchange.parameter("digest");
  if (exchange.has_parameter("digest") && !is_digest(digest)) {
    co_return co_await exchange.refuse(400, "DIGEST_INVALID", "it is no sha256 digest");
  }
  auto lease = co_await repositories_.blobs().begin_upload(account, home->name);
  if (!lease && lease.error().code == Code::kLimit) {
    co_return co_await exchange.refuse(429, "TOOMANYREQUESTS", lease.error().message);
  }
  if (!lease) co_return co_await exchange.refuse(lease.error());
  if (digest.empty()) co_return co_await exchange.answer(202, upload_headers(home->name, **lease));
  const auto received = co_await receive(exchange, *lease);
  if (!received) co_return co_await exchange.refuse(received.error());
  co_return co_await finish_upload(exchange, std::move(*lease), digest);
}

Async<Result<void>> Registry::upload(Exchange& exchange) {
  const std::string& method = exchange.request.method;
  const std::string name = exchange.route.name;
  const std::string account = exchange.caller.account;
  auto lease = repositories_.blobs().lease_upload(account, name, exchange.route.reference);
  if (!lease && lease.error().code == Code::kConflict) {
    co_return co_await exchange.refuse(409, "BLOB_UPLOAD_INVALID", lease.error().message);
  }
  if (!lease) co_return co_await exchange.refuse(404, "BLOB_UPLOAD_UNKNOWN", lease.error().message);
  if (exchange.reads()) co_return co_await exchange.answer(204, upload_headers(name, **lease));
  if (method == "DELETE") {
    const auto cancelled = co_await repositories_.blobs().cancel(std::move(*lease));
    if (!cancelled) co_return co_await exchange.refuse(cancelled.error());
    co_return co_await exchange.answer(204);
  }
  if (method != "PATCH" && method != "PUT")
    co_return co_await exchange.refuse(405, "UNSUPPORTED", "not here");
  const std::string digest = exchange.parameter("digest");
  if (method == "PUT" && !is_digest(digest)) {
    co_return co_await exchange.refuse(400, "DIGEST_INVALID", "it is no sha256 digest");
  }
  if (const std::string_view text = exchange.request.headers.get("Content-Range"); !text.empty()) {
    const std::optional<ByteRange> range = parse_span(text);
    if (!range || range->first != (*lease)->size) {
      co_return co_await exchange.refuse(
          416, "BLOB_UPLOAD_INVALID", fmt::format("the upload goes on at byte {}", (*lease)->size),
          upload_headers(name, **lease));
    }
    const std::optional<uint64_t> size = exchange.request.body_size;
    if (size && *size != range->last - range->first + 1) {
      co_return co_await exchange.refuse(400, "SIZE_INVALID",
                                         "Content-Range and Content-Length do not agree");
    }
  }
  const auto received = co_await receive(exchange, *lease);
  if (!received) co_return co_await exchange.refuse(received.error());
  if (method == "PATCH") co_return co_await exchange.answer(202, upload_headers(name, **lease));
  co_return co_await finish_upload(exchange, std::move(*lease), digest);
}

// What came before a failure is kept: the client asks how far it got, and goes on.
Async<Result<void>> Registry::receive(Exchange& exchange, BlobStore::UploadLease& lease) {
  std::string gathered;
  for (;;) {
    Result<std::string> piece = co_await exchange.body.read();
    const bool ended = !piece || piece->empty();
    if (!ended) gathered += *piece;
    if (!gathered.empty() && (ended || gathered.size() >= kUploadPieceBytes)) {
      HOB_CO_CHECK(co_await repositories_.blobs().append(lease, std::exchange(gathered, {})));
    }
    if (!piece) co_return fail(piece.error());
    if (ended) co_return Result<void>();
  }
}

Async<Result<void>> Registry::finish_upload(Exchange& exchange, BlobStore::UploadLease lease,
                                            std::string digest) {
  const uint64_t size = lease->size;
  const BlobStore::Pin pin(repositories_.blobs(), digest);
  const auto home = co_await repository(exchange);
  if (!home) co_return co_await exchange.refuse(home.error());
  const auto finished = co_await repositories_.blobs().finish(std::move(lease), digest);
  if (!finished) co_return co_await exchange.refuse(finished.error());
  const auto linked = co_await repositories_.link_blob(*home, digest, size);
  if (!linked) co_return co_await exchange.refuse(linked.error());
  co_return co_await exchange.answer(201, blob_headers(home->name, digest));
}

}  // namespace hob::image
