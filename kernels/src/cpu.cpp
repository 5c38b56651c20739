// The C interface of the CPU library: chooses an instruction set when it is first used, and can be told another one.
#include <string.h>

#include "arguments.h"
#if __has_include("sequential.h")
#include "sequential.h"
#endif

namespace baseline {
int pass_forward(const RanpPass&);
int pass_backward(const RanpPass&);
int p_pool(const RanpPool&);
int p_pool_backward(const RanpPool&);
}  // namespace baseline
#if defined(RANP_X86)
namespace avx2 {
int pass_forward(const RanpPass&);
int pass_backward(const RanpPass&);
int p_pool(const RanpPool&);
int p_pool_backward(const RanpPool&);
}  // namespace avx2
namespace avx512 {
int pass_forward(const RanpPass&);
int pass_backward(const RanpPass&);
int p_pool(const RanpPool&);
int p_pool_backward(const RanpPool&);
}  // namespace avx512
#endif

namespace {

struct Isa {
  const char* name;
  int (*forward)(const RanpPass&);
  int (*backward)(const RanpPass&);
  int (*p_pool)(const RanpPool&);
  int (*p_pool_backward)(const RanpPool&);
};

// Best first; the last one runs anywhere.
const Isa sets[] = {
#if defined(RANP_X86)
    {"avx512", avx512::pass_forward, avx512::pass_backward, avx512::p_pool, avx512::p_pool_backward},
    {"avx2", avx2::pass_forward, avx2::pass_backward, avx2::p_pool, avx2::p_pool_backward},
#endif
    {"baseline", baseline::pass_forward, baseline::pass_backward, baseline::p_pool, baseline::p_pool_backward},
};
const int count = sizeof sets / sizeof *sets;

bool runs_here(const Isa& isa) {
#if defined(RANP_X86)
  __builtin_cpu_init();
  if (!strcmp(isa.name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!strcmp(isa.name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
#endif
  (void)isa;
  return true;
}

int best() {
  for (int i = 0; i < count; ++i)
    if (runs_here(sets[i])) return i;
  return count - 1;
}

int chosen = best();

}  // namespace

RANP_EXPORT int ranp_abi_version() { return RANP_ABI; }
RANP_EXPORT int ranp_pass_size() { return sizeof(RanpPass); }
RANP_EXPORT const char* ranp_isa() { return sets[chosen].name; }

// Takes the instruction set of this name, or the best one for null; refuses one that this machine can't run.
RANP_EXPORT int ranp_choose_isa(const char* name) {
  if (!name) {
    chosen = best();
    return RANP_OK;
  }
  for (int i = 0; i < count; ++i)
    if (!strcmp(sets[i].name, name) && runs_here(sets[i])) {
      chosen = i;
      return RANP_OK;
    }
  return RANP_BAD_ARGUMENT;
}

RANP_EXPORT const char* ranp_error(int code) {
  switch (code) {
    case RANP_OK: return "no error";
    case RANP_NO_MEMORY: return "out of memory";
    case RANP_BAD_ARGUMENT: return "an argument is not supported";
    default: return "unknown error";
  }
}

RANP_EXPORT int ranp_pass_forward(const RanpPass* arguments) { return sets[chosen].forward(*arguments); }
RANP_EXPORT int ranp_pass_backward(const RanpPass* arguments) { return sets[chosen].backward(*arguments); }
RANP_EXPORT int ranp_pool_size() { return sizeof(RanpPool); }
RANP_EXPORT int ranp_p_pool(const RanpPool* arguments) { return sets[chosen].p_pool(*arguments); }
RANP_EXPORT int ranp_p_pool_backward(const RanpPool* arguments) { return sets[chosen].p_pool_backward(*arguments); }
