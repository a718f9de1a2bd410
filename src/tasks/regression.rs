//! Least squares with confidence intervals.

/// An estimated coefficient with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// The least-squares coefficients of `rows` · x ≈ `y`, each with Student's confidence interval; `None` if there are not more rows than
/// coefficients, or if the rows are linearly dependent.
pub fn least_squares<const K: usize>(rows: &[[f64; K]], y: &[f64]) -> Option<[Estimate; K]> {
    assert_eq!(rows.len(), y.len());
    let freedom = rows.len().checked_sub(K).filter(|&n| n > 0)?;
    // Columns are normalised, since sizes have very different magnitudes.
    let scale: [f64; K] = std::array::from_fn(|j| rows.iter().map(|row| row[j] * row[j]).sum::<f64>().sqrt());
    let normal: [[f64; K]; K] = std::array::from_fn(|i| {
        std::array::from_fn(|j| rows.iter().map(|row| row[i] / scale[i] * row[j] / scale[j]).sum())
    });
    let inverse = inverse(normal)?;
    let moments: [f64; K] = std::array::from_fn(|j| rows.iter().zip(y).map(|(row, y)| row[j] / scale[j] * y).sum());
    let scaled: [f64; K] = std::array::from_fn(|i| (0..K).map(|j| inverse[i][j] * moments[j]).sum());
    let error = |row: &[f64; K], y: f64| y - (0..K).map(|j| row[j] / scale[j] * scaled[j]).sum::<f64>();
    let squares: f64 = rows.iter().zip(y).map(|(row, &y)| error(row, y).powi(2)).sum();
    let variance = squares / freedom as f64;
    let t = student(freedom);
    Some(std::array::from_fn(|j| {
        let (value, half) = (scaled[j] / scale[j], t * (variance * inverse[j][j]).sqrt() / scale[j]);
        Estimate { value, low: value - half, high: value + half }
    }))
}

/// The inverse of a symmetric matrix with unit diagonal, by Gauss-Jordan elimination; `None` if it is singular or nearly so.
fn inverse<const K: usize>(mut a: [[f64; K]; K]) -> Option<[[f64; K]; K]> {
    let mut b: [[f64; K]; K] = std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 }));
    for i in 0..K {
        let pivot = (i..K).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs()))?;
        let size = a[pivot][i].abs();
        if size.is_nan() || size <= 1e-12 {
            return None;
        }
        a.swap(i, pivot);
        b.swap(i, pivot);
        let factor = 1.0 / a[i][i];
        (0..K).for_each(|j| {
            a[i][j] *= factor;
            b[i][j] *= factor;
        });
        for k in (0..K).filter(|&k| k != i) {
            let factor = a[k][i];
            (0..K).for_each(|j| {
                a[k][j] -= factor * a[i][j];
                b[k][j] -= factor * b[i][j];
            });
        }
    }
    Some(b)
}

/// The 97.5 % quantile of Student's distribution with `n` degrees of freedom.
fn student(n: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1e3);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if within(middle, n) < 0.95 { low = middle } else { high = middle }
    }
    low
}

/// The probability that |t| ≤ x with `n` degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4).
fn within(x: f64, n: usize) -> f64 {
    let angle = (x / (n as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = n % 2;
    // cosᵒ(1 + (1+o)/(2+o) cos² + (1+o)(3+o)/((2+o)(4+o)) cos⁴ + …), as many terms as n has pairs.
    let (mut term, mut sum) = (if odd == 1 { cos } else { 1.0 }, 0.0);
    for k in 0..n / 2 {
        sum += term;
        term *= cos * cos * (2 * k + 1 + odd) as f64 / (2 * k + 2 + odd) as f64;
    }
    if odd == 1 { (angle + sin * sum) * std::f64::consts::FRAC_2_PI } else { sin * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let tables = [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (10, 2.2281), (29, 2.0452)];
        for (n, expected) in tables {
            assert!((student(n) - expected).abs() < 1e-4, "{n}: {}", student(n));
        }
    }

    /// Anscombe's first set (1973): slope 0.5001 with a standard error of 0.1179, intercept 3.0001 with 1.1247.
    #[test]
    fn a_line_has_its_slope_and_interval() {
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let [slope, intercept] = least_squares(&x.map(|x| [x, 1.0]), &y).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 2e-4;
        assert!(near(slope.value, 0.5001) && near(intercept.value, 3.0001), "{slope:?} {intercept:?}");
        assert!(near((slope.high - slope.value) / student(9), 0.1179), "{slope:?}");
        assert!(near((intercept.value - intercept.low) / student(9), 1.1247), "{intercept:?}");
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_estimated() {
        assert!(least_squares(&[[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]], &[1.0, 2.0, 3.0]).is_none());
        assert!(least_squares(&[[1.0, 2.0], [2.0, 5.0]], &[1.0, 2.0]).is_none());
        let [a, b, c] = least_squares(
            &[[1e9, 1.0, 1e-3], [2e9, 4.0, 1e-3], [3e9, 2.0, 1e-3], [4e9, 9.0, 1e-3]],
            &[5.0, 11.0, 12.0, 22.0],
        )
        .unwrap();
        assert!(
            (a.value * 1e9 - 3.0).abs() < 1e-6 && (b.value - 1.0).abs() < 1e-6 && (c.value * 1e-3 - 1.0).abs() < 1e-6
        );
    }
}
