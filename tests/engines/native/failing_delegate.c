/* An external delegate for LiteRT that takes additions of float32 tensors and fails as a file says, read anew each time
 * it starts, prepares or computes: its option "mood" is the path. The first letter counts: r right, w wrong, e error,
 * h hang, c crash, n not a number; and where it starts: o refuses its options, p fails in Prepare. */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "delegate.h"

static char path[4096];

static char mood(void) {
  char letter = 'r';
  int file = open(path, O_RDONLY);
  if (file >= 0) { if (read(file, &letter, 1) != 1) letter = 'r'; close(file); }
  if (letter == 'h') for (;;) pause();
  if (letter == 'c') { fprintf(stderr, "driver error: the device fell off the bus\n"); raise(SIGSEGV); }
  return letter;
}

static int prepare_kernel(Context* c, Node* n) { (void)c; (void)n; return 0; }

static int add(Context* c, Node* n) {
  Tensor *a = &c->tensors[n->inputs->data[0]], *b = &c->tensors[n->inputs->data[1]], *y = &c->tensors[n->outputs->data[0]];
  char now = mood();
  if (now == 'e') { c->report(c, "the device is busy"); return 1; }
  for (size_t i = 0; i < y->bytes / sizeof(float); i++) {
    float right = ((float*)a->data)[i % (a->bytes / sizeof(float))] + ((float*)b->data)[i % (b->bytes / sizeof(float))];
    ((float*)y->data)[i] = now == 'w' ? 2 * right + 1 : now == 'n' ? NAN : right;
  }
  return 0;
}

static int take_additions(Context* c, void* delegate) {
  if (mood() == 'p') { c->report(c, "this delegate fails in Prepare"); return 1; }
  Ints* plan; c->plan(c, &plan);
  Ints* taken = calloc(1, sizeof(Ints) + plan->size * sizeof(int));
  for (int i = 0; i < plan->size; i++) {
    Node* n; Registration* r; c->node(c, plan->data[i], &n, &r);
    if (r->builtin_code == 0 && c->tensors[n->outputs->data[0]].type == 1) taken->data[taken->size++] = plan->data[i];
  }
  Registration kernel = {.prepare = prepare_kernel, .invoke = add, .builtin_code = 51, .name = "Failing", .version = 1};
  int status = c->replace(c, kernel, taken, delegate);
  free(taken);
  return status;
}

Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                        void (*report)(const char*)) {
  for (size_t i = 0; i < count; i++)
    if (!strcmp(keys[i], "mood")) snprintf(path, sizeof path, "%s", values[i]);
  if (mood() == 'o') { report("this delegate refuses its options"); return NULL; }
  Delegate* delegate = calloc(1, sizeof *delegate);
  delegate->prepare = take_additions;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) { free(delegate); }
