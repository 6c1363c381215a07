#include "edge/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace hob::edge {
namespace {

int bio_read(BIO* bio, char* into, size_t size, size_t* got) {
  BIO_clear_retry_flags(bio);
  *got = static_cast<TlsFilter*>(BIO_get_data(bio))->read_wire(into, size);
  if (*got > 0) return 1;
  BIO_set_retry_read(bio);
  return 0;
}

int bio_write(BIO* bio, const char* data, size_t size, size_t* written) {
  BIO_clear_retry_flags(bio);
  if (!static_cast<TlsFilter*>(BIO_get_data(bio))->write_wire({data, size})) return 0;
  *written = size;
  return 1;
}

long bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP ? 1 : 0;
}

const BIO_METHOD* wire_method() {
  static const BIO_METHOD* method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "edge wire");
    HOB_ASSERT(made != nullptr);
    BIO_meth_set_read_ex(made, bio_read);
    BIO_meth_set_write_ex(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

}  // namespace

TlsFilter::TlsFilter(Socket& socket, Loop& loop, std::shared_ptr<const Certificates> certificates,
                     std::shared_ptr<const AcmeAnswers> acme)
    : socket_(socket),
      loop_(loop),
      certificates_(std::move(certificates)),
      acme_(std::move(acme)),
      shown_(&certificates_->first()),
      ssl_(SSL_new(shown_->context)) {
  HOB_ASSERT(ssl_ != nullptr);
  BIO* bio = BIO_new(wire_method());
  HOB_ASSERT(bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_app_data(ssl_, this);
  SSL_set_accept_state(ssl_);
}

TlsFilter::~TlsFilter() { SSL_free(ssl_); }

size_t TlsFilter::read_wire(char* into, size_t size) {
  const size_t count = std::min(size, input_.size());
  if (count > 0) std::memcpy(into, input_.data(), count);
  input_.skip(count);
  return count;
}

bool TlsFilter::write_wire(std::string_view bytes) { return wire_.append(loop_.buffers(), bytes); }

std::string_view TlsFilter::asked_for(std::string_view name) {
  server_name_.assign(name);
  if (server_name_.ends_with('.')) server_name_.pop_back();
  for (char& c : server_name_) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return server_name_;
}

ssl_ctx_st* TlsFilter::acme_answer(std::string_view name) {
  ssl_ctx_st* answer = acme_ == nullptr ? nullptr : acme_->by_tls(asked_for(name));
  answers_acme_ = answer != nullptr;
  return answer;
}

bool TlsFilter::covers(std::string_view host) const {
  return host == server_name_ || shown_->covers(host);
}

std::string_view TlsFilter::protocol() const {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

void TlsFilter::received(Slice data) {
  if (broken_) return;
  input_ = std::move(data);
  if (!secured_) shake_hands();
  if (secured_ && !socket_.closing()) read_records();
  input_.reset();
}

void TlsFilter::shake_hands() {
  const int done = SSL_do_handshake(ssl_);
  // Also on failure: the alert says why.
  if (!wire_.empty()) loop_.flush(socket_);
  if (done == 1) {
    secured_ = true;
    acme_.reset();
    secured(socket_);
    return;
  }
  if (SSL_get_error(ssl_, done) == SSL_ERROR_WANT_READ) return;
  ERR_clear_error();
  broken_ = true;
  loop_.shut(socket_);
}

void TlsFilter::read_records() {
  BufferPool& pool = loop_.buffers();
  bool more = true;
  while (more && !socket_.closing()) {
    // Past the reserve that readers leave alone: what has been decrypted cannot wait outside.
    Buffer* buffer = pool.take();
    if (buffer == nullptr) {
      broken();
      return;
    }
    size_t filled = 0;
    int error = SSL_ERROR_NONE;
    while (filled < kBufferBytes) {
      size_t got = 0;
      const int done = SSL_read_ex(ssl_, buffer->data + filled, kBufferBytes - filled, &got);
      if (done != 1) {
        error = SSL_get_error(ssl_, done);
        break;
      }
      filled += got;
      if (input_.empty() && SSL_pending(ssl_) == 0) {
        more = false;
        break;
      }
    }
    buffer->used = static_cast<uint32_t>(filled);
    Slice text(buffer, buffer->data, filled);
    if (!text.empty()) deliver(socket_, std::move(text));
    // A change of keys asks for an answer.
    if (!wire_.empty()) loop_.flush(socket_);
    if (error == SSL_ERROR_NONE || socket_.closing()) continue;
    if (error == SSL_ERROR_ZERO_RETURN) {
      ended(socket_, 0);
    } else if (error != SSL_ERROR_WANT_READ) {
      broken();
    }
    return;
  }
}

void TlsFilter::broken() {
  ERR_clear_error();
  broken_ = true;
  ended(socket_, EPROTO);
}

size_t TlsFilter::record_limit(size_t waiting) {
  const uint64_t now = loop_.now_ms();
  if (now - last_sealed_ms_ > kBurstEndsAfterMs) burst_bytes_ = 0;
  last_sealed_ms_ = now;
  // All that there is, in one or two packets: cutting it up would only cost.
  if (burst_bytes_ >= kSmallRecordsFor || waiting <= 2 * kSmallRecordBytes) return kRecordBytes;
  return kSmallRecordBytes;
}

bool TlsFilter::seal(Chain& out) {
  if (!secured_ || broken_) return true;
  while (!out.empty() && wire_.bytes() < kQueuedBytesHigh) {
    const size_t limit = record_limit(out.bytes());
    const Slice& first = out.piece(0);
    Slice gathered;
    std::string_view text = first.view().substr(0, limit);
    if (text.size() < limit && out.pieces() > 1) {
      Buffer* buffer = loop_.buffers().take();
      if (buffer == nullptr) return false;
      size_t count = 0;
      for (size_t i = 0; i < out.pieces() && count < limit; ++i) {
        const std::string_view piece = out.piece(i).view().substr(0, limit - count);
        std::memcpy(buffer->data + count, piece.data(), piece.size());
        count += piece.size();
      }
      gathered = Slice(buffer, buffer->data, count);
      text = gathered.view();
    }
    size_t written = 0;
    if (SSL_write_ex(ssl_, text.data(), text.size(), &written) != 1) {
      ERR_clear_error();
      return false;
    }
    burst_bytes_ += written;
    out.consume(written);
  }
  return true;
}

void TlsFilter::finish() {
  if (!secured_ || broken_) return;
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

}  // namespace hob::edge
