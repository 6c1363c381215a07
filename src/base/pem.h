// For whoever has OpenSSL read PEM that came from outside.
#pragma once

namespace hob {

// An OpenSSL password callback: what is encrypted is refused. Without one OpenSSL asks at the
// terminal, and waits.
inline int no_password(char*, int, int, void*) { return -1; }

}  // namespace hob
