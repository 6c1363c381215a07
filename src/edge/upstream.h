// The target's side, as an exchange sees it: a connection of HTTP/1.1, or a stream of HTTP/2.
#pragma once

#include <string_view>

#include "edge/buffer.h"

namespace hob::edge {

class Exchange;

class Upstream {
 public:
  // Takes on an exchange: its bytes are taken from now on, even before there is a connection.
  virtual void begin(Exchange& exchange) = 0;
  virtual bool connected() const = 0;
  // A kept-alive connection that has not answered anything to this exchange yet.
  virtual bool reused() const = 0;
  // Whether its target can say that it did nothing with a request (Exchange::upstream_refused).
  virtual bool may_refuse() const = 0;
  // Fields may follow a body whose length is known.
  virtual bool trailers_may_come() const = 0;

  // ---- the request, in this order ----
  // In canonical form, with the framing of HTTP/1.1 and the last empty line. False: the exchange
  // has been refused, and may be gone.
  virtual bool send_head(const Chain& head) = 0;
  // Unframed.
  virtual void send_body(const Chain& data) = 0;
  // Lines that may be passed on.
  virtual void send_end(std::string_view trailers) = 0;
  // Bytes that the target has not taken.
  virtual size_t unsent() const = 0;

  // The exchange does not need it any more, answered or not.
  virtual void abandon() = 0;
  virtual void pause_reading() = 0;
  virtual void resume_reading() = 0;

 protected:
  ~Upstream() = default;
};

}  // namespace hob::edge
