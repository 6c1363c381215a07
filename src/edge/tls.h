// TLS between a client's socket and the wire: OpenSSL over the loop's buffers, without system calls
// of its own.
//
// Versions, ciphers and tickets are Certificates' matter. Plain text is delivered in whole buffers;
// what is sent goes in small records while a burst begins, so that the client can use the first
// packet as soon as it has it, then in the largest.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "edge/acme_answers.h"
#include "edge/certificates.h"
#include "edge/loop.h"

struct ssl_st;

namespace hob::edge {

// A record that fits a packet: 1,460 bytes of a TCP segment on Ethernet, without its time stamps,
// the record's header, tag and padding.
inline constexpr size_t kSmallRecordBytes = 1'400;
inline constexpr size_t kRecordBytes = 16 * 1024;      // the most that TLS allows
inline constexpr size_t kSmallRecordsFor = 16 * 1024;  // of a burst; then large ones
inline constexpr uint64_t kBurstEndsAfterMs = 1'000;   // nothing sent for so long: a new burst

class TlsFilter final : public Filter {
 public:
  // `socket` hears on_secured() when the handshake is done.
  // `acme`: nullptr while nobody asks.
  TlsFilter(Socket& socket, Loop& loop, std::shared_ptr<const Certificates> certificates,
            std::shared_ptr<const AcmeAnswers> acme);
  ~TlsFilter() override;

  void received(Slice data) override;
  bool seal(Chain& out) override;
  void finish() override;

  // Whether the client may ask for `host` (lower case) on this connection: it was connected for
  // that very name, or the certificate it was shown has it (RFC 9110 §7.4).
  bool covers(std::string_view host) const;
  // What ALPN agreed on; empty: nothing.
  std::string_view protocol() const;

  // ---- from the handshake ----
  // The name the client asked for, in lower case.
  std::string_view asked_for(std::string_view name);
  void shows(const Certificates::Entry& entry) { shown_ = &entry; }
  const Certificates::Entry& shown() const { return *shown_; }
  // What answers an ACME server that asks about the name; nullptr: nothing. From then on the
  // connection is good for nothing else.
  ssl_ctx_st* acme_answer(std::string_view name);
  bool answers_acme() const { return answers_acme_; }
  // Among its worker's handshakes under way; kNoPlace: it is not.
  static constexpr uint32_t kNoPlace = UINT32_MAX;
  uint32_t& place() { return place_; }
  // ---- from OpenSSL's side of the wire ----
  size_t read_wire(char* into, size_t size);  // 0: nothing left
  bool write_wire(std::string_view bytes);

 private:
  void shake_hands();
  void read_records();
  void broken();
  size_t record_limit(size_t waiting);

  Socket& socket_;
  Loop& loop_;
  std::shared_ptr<const Certificates> certificates_;
  std::shared_ptr<const AcmeAnswers> acme_;
  const Certificates::Entry* shown_;
  ssl_st* ssl_;
  Slice input_;  // from the wire, not read yet
  std::string server_name_;
  uint64_t last_sealed_ms_ = 0;
  size_t burst_bytes_ = 0;
  uint32_t place_ = kNoPlace;
  bool secured_ = false;
  bool broken_ = false;
  bool answers_acme_ = false;
};

}  // namespace hob::edge
