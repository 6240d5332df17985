//! Sets up threads that run networks: gradients, device, number of threads.

use std::{cell::Cell, marker::PhantomData, num::NonZeroU16};

use tch::{Kind, TchError, Tensor};
use thiserror::Error;

use domain::Device;

/// Where a thread runs its networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadPlacement {
    pub device: Device,
    /// Threads within one operation on the CPU.
    pub threads: NonZeroU16,
}

impl Default for ThreadPlacement {
    /// One thread: the server scales by workers, and OpenMP teams of several workers on the same cores were measured to
    /// be slower by more than a factor of ten.
    fn default() -> Self {
        Self { device: Device::Cpu, threads: NonZeroU16::MIN }
    }
}

/// Why a device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RuntimeError {
    #[error(
        "{0} is configured, and this program's libtorch finds no CUDA; build it with LIBTORCH set to a \
         libtorch for CUDA, on a machine with a driver for it, or leave the model on the cpu"
    )]
    NoCuda(Device),
    #[error("{asked} is configured, and this machine has the CUDA devices 0 to {last}")]
    NoSuchDevice { asked: Device, last: i64 },
}

/// While this guard exists, gradients are off and libtorch uses the thread's placement.
#[must_use = "gradients come back on when this is dropped"]
pub struct InferenceThread {
    _gradients_off: tch::NoGradGuard,
    /// The placement before.
    before: Option<ThreadPlacement>,
    /// Not `Send`: the settings belong to one thread.
    _stays_here: PhantomData<*const ()>,
}

thread_local! {
    /// The placement of this thread; `None` before [`prepare_thread`].
    static PLACEMENT: Cell<Option<ThreadPlacement>> = const { Cell::new(None) };
}

/// Prepares the calling thread for inference; call it first in every thread that builds or runs a network. A prepared
/// thread keeps its placement; another gets the default.
pub fn prepare_thread() -> InferenceThread {
    let before = PLACEMENT.get();
    if before.is_none() {
        place(ThreadPlacement::default());
    }
    InferenceThread { _gradients_off: tch::no_grad_guard(), before, _stays_here: PhantomData }
}

/// Sets the placement of the calling thread, which must be prepared. On CUDA, built-in networks run in half precision.
///
/// # Errors
///
/// See [`RuntimeError`].
pub fn run_on(placement: ThreadPlacement) -> Result<(), RuntimeError> {
    check(placement.device)?;
    place(placement);
    Ok(())
}

/// Whether a device is available.
///
/// # Errors
///
/// See [`RuntimeError`].
pub fn check(device: Device) -> Result<(), RuntimeError> {
    let Device::Cuda(number) = device else { return Ok(()) };
    let count = if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
    match count {
        0 => Err(RuntimeError::NoCuda(device)),
        count if i64::from(number) >= count => Err(RuntimeError::NoSuchDevice { asked: device, last: count - 1 }),
        _ => Ok(()),
    }
}

fn place(placement: ThreadPlacement) {
    // libtorch has a process-wide number of threads, and a thread takes it over when it first asks: asking before
    // setting keeps the numbers of other threads.
    tch::get_num_threads();
    tch::set_num_threads(i32::from(placement.threads.get()));
    PLACEMENT.set(Some(placement));
}

impl Drop for InferenceThread {
    fn drop(&mut self) {
        if let Some(before) = self.before.filter(|before| PLACEMENT.get() != Some(*before)) {
            place(before);
        }
        PLACEMENT.set(self.before);
    }
}

/// The calling thread's device.
pub(super) fn device() -> tch::Device {
    match PLACEMENT.get().unwrap_or_default().device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(number) => tch::Device::Cuda(usize::from(number)),
    }
}

/// Moves a tensor of a built-in network (weights or input) to the thread's device, and to half precision on CUDA.
pub(super) fn to_device(tensor: Tensor) -> Result<Tensor, TchError> {
    match device() {
        tch::Device::Cpu => Ok(tensor),
        device => tensor.f_to_device(device)?.f_to_kind(Kind::Half),
    }
}

/// All numbers of a tensor as f32, row-major, from any device and type.
pub(super) fn to_host(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let tensor = tensor.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut numbers = vec![0.0; tensor.numel()];
    tensor.f_copy_data(&mut numbers, tensor.numel())?;
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    fn threads(count: u16) -> ThreadPlacement {
        ThreadPlacement { threads: NonZeroU16::new(count).expect("at least one"), ..ThreadPlacement::default() }
    }

    #[test]
    fn each_thread_keeps_its_own_number_of_threads() {
        let counts = [1, 3, 2];
        let all_set = Barrier::new(counts.len());
        thread::scope(|scope| {
            let run = |count: u16| {
                let _inference = prepare_thread();
                run_on(threads(count)).expect("the CPU is there");
                all_set.wait();
                // An operation large enough to be split, so that libtorch applies the setting.
                let ones = Tensor::ones([512, 512], (Kind::Float, tch::Device::Cpu));
                let sum = ones.matmul(&ones).sum(Kind::Double).double_value(&[]);
                (tch::get_num_threads(), sum)
            };
            let running: Vec<_> = counts.map(|count| scope.spawn(move || run(count))).into_iter().collect();
            for (running, count) in running.into_iter().zip(counts) {
                let (found, sum) = running.join().expect("it does not panic");
                assert_eq!(found, i32::from(count));
                assert!((sum - 512.0_f64.powi(3)).abs() < 0.5);
            }
        });
    }

    #[test]
    fn preparing_a_thread_again_keeps_its_placement() {
        thread::spawn(|| {
            let _inference = prepare_thread();
            run_on(threads(2)).expect("the CPU is there");
            {
                let _again = prepare_thread();
                assert_eq!((PLACEMENT.get(), tch::get_num_threads()), (Some(threads(2)), 2));
                run_on(threads(3)).expect("the CPU is there");
            }
            assert_eq!((PLACEMENT.get(), tch::get_num_threads()), (Some(threads(2)), 2));
        })
        .join()
        .expect("it does not panic");
    }

    #[test]
    fn a_missing_device_is_refused_with_advice() {
        assert_eq!(check(Device::Cpu), Ok(()));
        let absent = Device::Cuda(u16::MAX);
        let error = check(absent).expect_err("nobody has so many").to_string();
        assert!(error.contains("cuda:65535") && error.contains("CUDA"), "{error}");
        let before = PLACEMENT.get();
        assert!(run_on(ThreadPlacement { device: absent, ..ThreadPlacement::default() }).is_err());
        assert_eq!(PLACEMENT.get(), before);
    }

    #[test]
    fn tensors_survive_the_way_to_the_device_and_back() {
        let numbers = [0.5, -1.25, 3.0];
        let tensor = to_device(Tensor::from_slice(&numbers)).expect("the CPU is there");
        assert_eq!(to_host(&tensor).expect("numbers"), numbers);
        let half = tensor.f_to_kind(Kind::Half).expect("they fit");
        assert_eq!(to_host(&half).expect("numbers"), numbers);
    }
}
