// Boost.JSON is header-only here: one translation unit holds its code.
#include <boost/json/src.hpp>
