// The init of the measured guests. Its first instructions say "!" on COM1, before any library; then
// it says "." there each millisecond through the kernel's driver (after a restore the emulator lets
// no program touch a port), or sleeps if its command line says `idle`.
namespace {

long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
               : "rcx", "r11", "memory");
  return result;
}

constexpr long kWrite = 1, kOpen = 2, kNanosleep = 35;
constexpr long kMillisecond[2] = {0, 1'000'000};
constexpr long kHour[2] = {3600, 0};

}  // namespace

extern "C" [[noreturn]] void run(const long* stack) {
  const auto* const* arguments = reinterpret_cast<const char* const*>(stack + 1);
  const bool idle = stack[0] > 1 && arguments[1][0] == 'i';
  const long console = call(kOpen, reinterpret_cast<long>("/dev/ttyS0"), 1);
  while (true) {
    if (!idle) call(kWrite, console, reinterpret_cast<long>("."), 1);
    call(kNanosleep, reinterpret_cast<long>(idle ? kHour : kMillisecond));
  }
}

extern "C" [[gnu::naked, noreturn]] void entry() {
  asm volatile(
      "mov $172, %eax\n"  // iopl
      "mov $3, %edi\n"
      "syscall\n"
      "mov $0x3f8, %edx\n"
      "mov $'!', %al\n"
      "out %al, %dx\n"
      "mov %rsp, %rdi\n"
      "and $-16, %rsp\n"
      "call run\n");
}
