// Where there is no libtorch, this is the header that the compiler finds, says so, and stops.
// .cargo/config.toml has this directory searched last, so the header of a real libtorch wins.
#if defined(__has_include_next)
#if __has_include_next(<torch/torch.h>)
#define FERROTRON_HAS_LIBTORCH
#include_next <torch/torch.h>
#endif
#endif
#ifndef FERROTRON_HAS_LIBTORCH
#include <there is no libtorch here: run `make setup` once, or point LIBTORCH at a libtorch 2.11.0>
#endif
