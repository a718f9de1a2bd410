//! Threads. Work is divided by the configuration and the data, never by their number, so they change how long a run takes and
//! nothing else.

use crate::kernels::memory::flush_denormals;
use crate::{Error, Result, blas};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A pool of `threads` workers (0: one per core) that treat denormals as zero. Run everything inside `pool.install`.
pub fn pool(threads: usize) -> Result<ThreadPool> {
    blas::initialise();
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("wordmill-{i}"))
        .start_handler(|_| flush_denormals())
        .build()
        .map_err(|error| Error::Usage(format!("--threads {threads}: {error}")))
}
