// cudaGetLastError and its kin.

#include "tests/emulator/runtime_state.h"

using namespace xception::emulator;  // NOLINT(google-build-using-namespace)

namespace {

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};

#define XC_ERROR(error, text) \
  { error, #error, text }

// The errors that the emulator returns, in the words of NVIDIA's runtime.
constexpr ErrorText kErrors[] = {
    XC_ERROR(cudaSuccess, "no error"),
    XC_ERROR(cudaErrorInvalidValue, "invalid argument"),
    XC_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    XC_ERROR(cudaErrorInitializationError, "initialization error"),
    XC_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    XC_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    XC_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    XC_ERROR(cudaErrorInvalidDevicePointer, "invalid device pointer"),
    XC_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    XC_ERROR(cudaErrorInsufficientDriver,
             "CUDA driver version is insufficient for CUDA runtime version"),
    XC_ERROR(cudaErrorMissingConfiguration, "__global__ function call is not configured"),
    XC_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    XC_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    XC_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    XC_ERROR(cudaErrorInvalidKernelImage, "device kernel image is invalid"),
    XC_ERROR(cudaErrorNoKernelImageForDevice,
             "no kernel image is available for execution on the device"),
    XC_ERROR(cudaErrorUnsupportedLimit, "limit is not supported on this architecture"),
    XC_ERROR(cudaErrorInvalidPtx, "a PTX JIT compilation failed"),
    XC_ERROR(cudaErrorUnsupportedPtxVersion,
             "the provided PTX was compiled with an unsupported toolchain."),
    XC_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    XC_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    XC_ERROR(cudaErrorSymbolNotFound, "named symbol not found"),
    XC_ERROR(cudaErrorNotReady, "device not ready"),
    XC_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    XC_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    XC_ERROR(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    XC_ERROR(cudaErrorContextIsDestroyed, "context is destroyed"),
    XC_ERROR(cudaErrorAssert, "device-side assert triggered"),
    XC_ERROR(cudaErrorHostMemoryAlreadyRegistered,
             "part or all of the requested memory range is already mapped"),
    XC_ERROR(cudaErrorHostMemoryNotRegistered,
             "pointer does not correspond to a registered memory region"),
    XC_ERROR(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    XC_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    XC_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    XC_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    XC_ERROR(cudaErrorNotSupported, "operation not supported"),
    XC_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    XC_ERROR(cudaErrorStreamCaptureInvalidated,
             "operation failed due to a previous error during capture"),
    XC_ERROR(cudaErrorStreamCaptureMerge,
             "operation would result in a merge of separate capture sequences"),
    XC_ERROR(cudaErrorStreamCaptureUnmatched,
             "capture was not ended in the same stream as it began"),
    XC_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    XC_ERROR(cudaErrorStreamCaptureIsolation,
             "dependency created on uncaptured work in another stream"),
    XC_ERROR(cudaErrorStreamCaptureImplicit,
             "operation would make the legacy stream depend on a capturing blocking stream"),
    XC_ERROR(cudaErrorCapturedEvent,
             "operation not permitted on an event last recorded in a capturing stream"),
    XC_ERROR(cudaErrorStreamCaptureWrongThread,
             "attempt to terminate a thread-local capture sequence from another thread"),
    XC_ERROR(cudaErrorGraphExecUpdateFailure,
             "the graph update was not performed because it included changes which violated "
             "constraints specific to instantiated graph update"),
    XC_ERROR(cudaErrorInvalidClusterSize,
             "a kernel launch error has occurred due to cluster misconfiguration"),
    XC_ERROR(cudaErrorUnknown, "unknown error"),
};

#undef XC_ERROR

constexpr const char* kUnknownCode = "unrecognized error code";

// What the last error is where no call failed: a broken device or a missing one stays.
cudaError_t standing_error() {
  Runtime& runtime = Runtime::get();
  const Lock lock(runtime.mutex);
  return runtime.startup_error != cudaSuccess ? runtime.startup_error : runtime.current().sticky;
}

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  thread_state().last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const cudaError_t standing = standing_error();
  return standing != cudaSuccess ? standing : thread_state().last_error;
}

const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorText& known : kErrors) {
    if (known.error == error) {
      return known.name;
    }
  }
  return kUnknownCode;
}

const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorText& known : kErrors) {
    if (known.error == error) {
      return known.text;
    }
  }
  return kUnknownCode;
}
}
