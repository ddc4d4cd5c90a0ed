/* An external delegate for LiteRT that takes additions of float32 tensors. The mode, set by -DMODE=…, chooses how it
 * behaves. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RIGHT, WRONG, IDLE, REFUSES, PREPARE_FAILS, HANGS, ABORTS, SEGFAULTS, CHATTERS };

#include "delegate.h"

static int prepare_kernel(Context* c, Node* n) { (void)c; (void)n; return 0; }

static int add(Context* c, Node* n) {
  Tensor *a = &c->tensors[n->inputs->data[0]], *b = &c->tensors[n->inputs->data[1]], *y = &c->tensors[n->outputs->data[0]];
  for (size_t i = 0; i < y->bytes / sizeof(float); i++)
    ((float*)y->data)[i] = ((float*)a->data)[i] + (MODE == WRONG ? 1.0f : ((float*)b->data)[i]);
  return 0;
}

static int take_additions(Context* c, void* delegate) {
  if (MODE == PREPARE_FAILS) { c->report(c, "the proof delegate fails in Prepare"); return 1; }
  if (MODE == IDLE) return 0;
  Ints* plan; c->plan(c, &plan);
  Ints* taken = calloc(1, sizeof(Ints) + plan->size * sizeof(int));
  for (int i = 0; i < plan->size; i++) {
    Node* n; Registration* r; c->node(c, plan->data[i], &n, &r);
    if (r->builtin_code == 0 && c->tensors[n->outputs->data[0]].type == 1) taken->data[taken->size++] = plan->data[i];
  }
  Registration kernel = {.prepare = prepare_kernel, .invoke = add, .builtin_code = 51, .name = "Proof", .version = 1};
  int status = c->replace(c, kernel, taken, delegate);
  free(taken);
  return status;
}

Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                        void (*report)(const char*)) {
  (void)keys; (void)values; (void)count;
  if (MODE == REFUSES) { report("the proof delegate wants option speed=fast"); return NULL; }
  Delegate* delegate = calloc(1, sizeof *delegate);
  delegate->prepare = take_additions;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) { free(delegate); }

__attribute__((constructor)) static void on_load(void) {
  if (MODE == HANGS) for (;;) pause();
  if (MODE == ABORTS) { fprintf(stderr, "driver error: firmware is missing\n"); abort(); }
  if (MODE == SEGFAULTS) raise(SIGSEGV);
  if (MODE == CHATTERS) for (;;) fprintf(stderr, "driver says hello\n");
}
