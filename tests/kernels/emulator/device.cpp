// The threads behind cuda_runtime.h, and the kernels of cuda.cu (test_cuda.py writes its triple angle brackets as LAUNCH).
//
//   g++ -std=c++17 -O1 -fPIC -pthread -ffp-contract=off -I. -I../../../kernels/src -shared device.cpp -o library.so
//
// With -fsanitize=thread and LD_PRELOAD=libtsan.so it looks for races between the lanes as well.
#include "cuda_runtime.h"

#define LAUNCH(kernel, blocks, threads, bytes, ...) \
  device::launch(reinterpret_cast<const void*>(+kernel), blocks, threads, bytes, [=] { kernel(__VA_ARGS__); })

#include "emulated.cu"

namespace warp { alignas(16) unsigned char shared_memory[1 << 18]; }

namespace device {
int optin = 232448, per_sm = 233472, sms = 132, error = cudaSuccess, lowered = 0, launches = 0, refused = -1;
std::map<const void*, int> allowed;
pthread_barrier_t barrier;
unsigned char exchange[lanes * 8];
thread_local dim3 thread, block, grid, shape;

static void beyond(size_t bytes) {
  for (size_t i = bytes; i < sizeof warp::shared_memory; ++i)
    if (warp::shared_memory[i] != 0xff) error = cudaErrorIllegalAddress;
}

void launch(const void* which, dim3 blocks, dim3 threads, size_t bytes, const std::function<void()>& kernel) {
  const auto found = allowed.find(which);
  const bool too_much = bytes > size_t(found == allowed.end() ? 49152 : found->second);
  const bool no_grid = !blocks.x || blocks.x > 0x7fffffff || threads.x * threads.y > 1024;
  if (launches++ == refused || too_much || no_grid) {
    error = no_grid ? cudaErrorInvalidConfiguration : cudaErrorInvalidValue;
    return;
  }
  pthread_barrier_init(&barrier, nullptr, lanes);
  std::vector<std::thread> warp;
  for (int lane = 0; lane < lanes; ++lane)
    warp.emplace_back([&, lane] {
      grid = blocks, shape = threads;
      for (unsigned b = 0; b < blocks.x; ++b)
        for (unsigned y = 0; y < threads.y; ++y) {
          if (y == 0 && lane == 0) memset(warp::shared_memory, 0xff, sizeof warp::shared_memory);  // NaN
          wait();
          for (unsigned x = lane; x < threads.x; x += lanes) {
            block = dim3(b), thread = dim3(x, y);
            kernel();
          }
          wait();
          if (lane == 0 && y + 1 == threads.y) beyond(bytes);
        }
    });
  for (auto& one : warp) one.join();
  pthread_barrier_destroy(&barrier);
}
}  // namespace device

// What the device claims to have, so that tests choose where the chain buffers lie.
RANP_EXPORT void ranp_device(int optin, int per_sm, int sms) {
  device::optin = optin, device::per_sm = per_sm, device::sms = sms;
  device::allowed.clear(), device::lowered = 0;
}
RANP_EXPORT int ranp_device_lowered() { return device::lowered; }

// Counts launches from here on, and refuses one of them, the first being 0.
RANP_EXPORT void ranp_device_refuse(int launch) { device::launches = 0, device::refused = launch; }
RANP_EXPORT int ranp_device_launches() { return device::launches; }
