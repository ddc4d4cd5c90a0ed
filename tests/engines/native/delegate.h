/* The structs of tensorflow/lite/core/c/common.h that an external delegate meets, as far as they are used here. */
#include <stdint.h>
#include <stdlib.h>

typedef struct { int size; int data[]; } Ints;
typedef struct {
  int type; void* data; Ints* dims; float scale; int32_t zero_point; int allocation; size_t bytes; const void* origin;
  const char* name; void* delegate; int handle; _Bool stale, variable; int quantization; void* quantization_params;
  void* sparsity; const Ints* signature;
} Tensor;
typedef struct { Ints *inputs, *outputs, *intermediates, *temporaries; void *user, *builtin; } Node;
typedef struct Context Context;
typedef struct {
  void* (*init)(Context*, const char*, size_t); void (*free)(Context*, void*);
  int (*prepare)(Context*, Node*); int (*invoke)(Context*, Node*); const char* (*profiling)(Context*, Node*);
  int32_t builtin_code; const char* name; int version; void *external, *async; uint64_t inplace;
} Registration;
struct Context {
  size_t tensor_count; int (*plan)(Context*, Ints**); Tensor* tensors; void* impl; void* resize;
  void (*report)(Context*, const char*, ...); void* add; int (*node)(Context*, int, Node**, Registration**);
  int (*replace)(Context*, Registration, const Ints*, void*);
};
typedef struct { void* data; int (*prepare)(Context*, void*); void *from, *to, *release; int64_t flags; void* builder; } Delegate;
