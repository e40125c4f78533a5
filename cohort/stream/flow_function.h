/* SPDX-License-Identifier: Apache-2.0 */
/** \file
 * What a shared library offers to a flow (`plugin` of a job): one C function, called for each record where it lies.
 *
 *     int cohort_flow(void* record, size_t length, cohort_flow_emit emit, void* to) {
 *         for (char* c = record; length--; ++c) *c = toupper(*c);
 *         ...
 *         return emit(to, record, n);                // n bytes of output; as often as wished
 *     }
 *
 * The record is a block of the input in the pool's memory, at the address at which the producer put it; the function may change it. Several threads call it at once; outputs go on in the order of the records.
 */
#ifndef COHORT_STREAM_FLOW_FUNCTION_H
#define COHORT_STREAM_FLOW_FUNCTION_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Adds bytes to the record's output. 0, or a positive errno that the function should return. */
typedef int (*cohort_flow_emit)(void* to, const void* bytes, size_t length);

/** 0, or a positive errno, which ends the job. Its name in the library is "cohort_flow". */
typedef int (*cohort_flow_function)(void* record, size_t length, cohort_flow_emit emit, void* to);

#ifdef __cplusplus
}
#endif
#endif
