// A connection's bytes, for http_server.cc and http_client.cc alone (it brings in Asio's sockets):
// reading and writing with one watchdog for all its time-outs, and bodies taken out of their
// framing.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/async.h"
#include "base/http.h"
#include "base/http_parser.h"

namespace hob::http {

using Socket = boost::asio::generic::stream_protocol::socket;

// One coroutine at a time uses it. After an error it is good for closing only.
class Wire {
 public:
  explicit Wire(Socket socket);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  // What was read and not yet taken.
  std::string_view buffered() const { return std::string_view(in_).substr(taken_); }
  void take(size_t count);
  // Reads some more behind buffered(). False: the peer closed its side. kTimeout: nothing within
  // `idle`.
  Async<Result<bool>> fill(Duration idle);
  // Reads some (at most kChunkBytesMax) past the buffer, which must be empty. Empty: the peer
  // closed its side.
  Async<Result<std::string>> read_some(Duration idle);
  // Writes all; `idle` is for each part that the peer takes.
  Async<Result<void>> write(std::string bytes, Duration idle);
  // The instant of steady time by which everything must be done, whatever `idle` says; nullopt:
  // none.
  void set_deadline(std::optional<std::chrono::steady_clock::time_point> at) { deadline_ = at; }
  // Ends a read or write that is waiting: it answers kCancelled.
  void interrupt();
  void shutdown_send();
  Socket& socket() { return socket_; }

 private:
  struct Watchdog;
  void arm(Duration idle);
  Error error_of(const boost::system::error_code& error, const char* doing) const;

  Socket socket_;
  std::shared_ptr<Watchdog> watchdog_;
  std::optional<std::chrono::steady_clock::time_point> deadline_;
  bool interrupted_ = false;
  std::string in_;
  size_t taken_ = 0;
};

// The body of one message on a Wire, which it must not outlive.
class WireBody final : public BodyReader {
 public:
  // `continue_wanted`: the peer waits for "100 Continue" before it sends.
  WireBody(Wire& wire, Framing framing, uint64_t length, Duration idle, bool continue_wanted);
  Async<Result<std::string>> read() override;
  bool finished() const { return finished_; }
  // The peer still waits for "100 Continue": nobody asked for the body.
  bool continue_pending() const { return continue_wanted_; }
  // At least this many bytes are still to come, if it is known.
  std::optional<uint64_t> left() const;
  bool failed() const { return failed_; }

 private:
  Async<Result<std::string>> read_chunked();
  Async<Result<std::string>> read_plain();

  Wire& wire_;
  Framing framing_;
  uint64_t left_;
  Duration idle_;
  bool continue_wanted_;
  bool finished_ = false;
  bool failed_ = false;
  ChunkedDecoder decoder_;
};

// Appends "Name: value\r\n"; what could end the line early is replaced.
void append_field(std::string& out, std::string_view name, std::string_view value);

}  // namespace hob::http
