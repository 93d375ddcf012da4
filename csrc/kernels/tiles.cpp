// The product of bytes on the tile registers of AMX; and, for targets without, on registers that are arrays: the same
// loads from the same places in the same order, so that all but the instructions themselves is tested everywhere.
//
// A tile is 16 rows of 64 bytes. Four of them accumulate 32 rows x 32 lanes, so that every tile that is loaded is
// multiplied twice.
#include "math-inl.h"
#include "parts.h"

namespace interp_fast {
namespace ISA {
namespace {

#if defined(__AMX_INT8__) && defined(__AMX_TILE__)
// Compilers declare that a configuration reads 8 of its 64 bytes, and loads of tiles that they read none.
#define IF_TILE_FENCE() asm volatile("" ::: "memory")
#define IF_TILE_ZERO(t) _tile_zero(t)
#define IF_TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define IF_TILE_STREAM(t, from, stride) _tile_stream_loadd(t, from, stride)
#define IF_TILE_ADD(c, a, b) _tile_dpbusd(c, a, b)
#define IF_TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#define IF_TILE_REGISTERS() IF_TILE_FENCE()

void begin() {
  struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shape = {};
  static_assert(sizeof shape == 64);
  shape.palette = 1;
  for (int t = 0; t < 8; t++) shape.bytes[t] = kTileStep, shape.rows[t] = kTileHalf;
  asm volatile("" : : "r"(&shape) : "memory");
  _tile_loadconfig(&shape);
}

void end() { _tile_release(); }
#else
struct Registers {
  alignas(64) uint8_t bytes[8][kTileHalf][kTileStep];

  void zero(int t) { memset(bytes[t], 0, sizeof bytes[t]); }
  void load(int t, const void* from, ptrdiff_t stride) {
    for (int i = 0; i < kTileHalf; i++) {
      memcpy(bytes[t][i], static_cast<const char*>(from) + i * stride, static_cast<size_t>(kTileStep));
    }
  }
  void store(int t, void* to, ptrdiff_t stride) const {
    for (int i = 0; i < kTileHalf; i++) {
      memcpy(static_cast<char*>(to) + i * stride, bytes[t][i], static_cast<size_t>(kTileStep));
    }
  }
  // c[i][q] += sum over groups of four of a[i][four] b[four][q]
  void add(int c, int a, int b) {
    for (int i = 0; i < kTileHalf; i++) {
      int32_t sum[kTileHalf];
      memcpy(sum, bytes[c][i], sizeof sum);
      for (int four = 0; four < kTileStep / 4; four++) {
        int8_t of_b[kTileHalf][4];
        memcpy(of_b, bytes[b][four], sizeof of_b);
        const uint8_t* const of_a = bytes[a][i] + 4 * four;
        for (int q = 0; q < kTileHalf; q++) {
          for (int j = 0; j < 4; j++) sum[q] += of_a[j] * of_b[q][j];
        }
      }
      memcpy(bytes[c][i], sum, sizeof sum);
    }
  }
};
#define IF_TILE_FENCE()
#define IF_TILE_ZERO(t) registers.zero(t)
#define IF_TILE_LOAD(t, from, stride) registers.load(t, from, stride)
#define IF_TILE_STREAM(t, from, stride) registers.load(t, from, stride)
#define IF_TILE_ADD(c, a, b) registers.add(c, a, b)
#define IF_TILE_STORE(t, to, stride) registers.store(t, to, stride)
#define IF_TILE_REGISTERS() Registers registers

void begin() {}
void end() {}
#endif

void multiply(const uint8_t* a, const int8_t* b, ptrdiff_t steps, const int32_t* start, int32_t* c) {
  constexpr ptrdiff_t kBytes = kTileHalf * kTileStep, kLane = kTileSide * sizeof(int32_t);
  IF_TILE_REGISTERS();
  if (start) {  // the same for every row
    IF_TILE_LOAD(0, start, 0);
    IF_TILE_LOAD(1, start + kTileHalf, 0);
    IF_TILE_LOAD(2, start, 0);
    IF_TILE_LOAD(3, start + kTileHalf, 0);
  } else {
    IF_TILE_ZERO(0);
    IF_TILE_ZERO(1);
    IF_TILE_ZERO(2);
    IF_TILE_ZERO(3);
  }
  const uint8_t* const a1 = a + steps * kBytes;
  const int8_t* const b1 = b + steps * kBytes;
  for (ptrdiff_t k = 0; k < steps * kBytes; k += kBytes) {
    IF_TILE_STREAM(6, b + k, kTileStep);  // b passes by once and must not push a, which stays, out of the first level
    IF_TILE_LOAD(4, a + k, kTileStep);
    IF_TILE_ADD(0, 4, 6);
    IF_TILE_STREAM(7, b1 + k, kTileStep);
    IF_TILE_ADD(1, 4, 7);
    IF_TILE_LOAD(5, a1 + k, kTileStep);
    IF_TILE_ADD(2, 5, 6);
    IF_TILE_ADD(3, 5, 7);
  }
  int32_t* const lower = c + kTileHalf * kTileSide;
  IF_TILE_STORE(0, c, kLane);
  IF_TILE_STORE(1, c + kTileHalf, kLane);
  IF_TILE_STORE(2, lower, kLane);
  IF_TILE_STORE(3, lower + kTileHalf, kLane);
  IF_TILE_FENCE();
}

}  // namespace

const TileKernels tile_kernels = {.begin = begin, .end = end, .multiply = multiply};

}  // namespace ISA
}  // namespace interp_fast
