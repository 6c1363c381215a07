// Which keys a TLS server of ours shows: those that today's clients know, and whose handshakes cost
// so little that nobody stalls a server by asking for many.
#pragma once

#include "base/result.h"

struct evp_pkey_st;
struct x509_st;

namespace hob {

inline constexpr int kRsaBitsMin = 2048;  // CA/Browser Forum's baseline requirements, 6.1.5
inline constexpr int kRsaBitsMax = 4096;  // signs in about 3 ms; one of 16,384 bits in 150 ms

// RSA of such a size, ECDSA P-256 or P-384, or Ed25519. kInvalid: says for people what it is
// instead.
Result<void> check_server_key(const evp_pkey_st* key);
// Whether it was signed with SHA-256, SHA-384 or SHA-512, or Ed25519. kInvalid: it was not.
Result<void> check_signature_kind(x509_st* certificate);
// Signs with the key as a handshake does, and verifies that with the certificate's: a few
// milliseconds. kInvalid: TLS takes no such pair.
Result<void> try_pair(x509_st* certificate, evp_pkey_st* key);

}  // namespace hob
