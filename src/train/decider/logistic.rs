//! Logistic regression by Newton's method (iteratively reweighted least squares), which has a unique solution and no
//! learning rate.

/// Ridge penalty on squared coefficients, over all probes together: it makes the solution unique for collinear
/// features.
const RIDGE: f64 = 1.0;
const ROUNDS: usize = 40;
const ENOUGH: f64 = 1e-9;

/// Fits the model: the constant, then one coefficient per column.
pub(super) fn fit<const N: usize>(rows: &[[f32; N]], answers: &[bool]) -> Vec<f64> {
    let mut fitted = vec![0.0; N + 1];
    for _ in 0..ROUNDS {
        let (mut slope, mut bend) = (vec![0.0; N + 1], vec![vec![0.0; N + 1]; N + 1]);
        for at in 1..=N {
            slope[at] = -RIDGE * fitted[at];
            bend[at][at] = RIDGE;
        }
        for (row, answer) in rows.iter().zip(answers) {
            let row: Vec<f64> = std::iter::once(1.0).chain(row.iter().map(|number| f64::from(*number))).collect();
            let logit: f64 = row.iter().zip(&fitted).map(|(number, weight)| number * weight).sum();
            let share = 1.0 / (1.0 + (-logit).exp());
            let (wrong, weight) = (f64::from(u8::from(*answer)) - share, (share * (1.0 - share)).max(1e-9));
            for (one, number) in row.iter().enumerate() {
                slope[one] += wrong * number;
                for (other, with) in row.iter().enumerate().take(one + 1) {
                    bend[one][other] += weight * number * with;
                }
            }
        }
        let change = solve(bend, slope);
        fitted.iter_mut().zip(&change).for_each(|(weight, change)| *weight += change);
        if change.iter().all(|change| change.abs() < ENOUGH) {
            break;
        }
    }
    fitted
}

/// Solves a positive definite system, given its lower triangle, by Cholesky decomposition.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for row in 0..size {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| matrix[row][k] * matrix[column][k]).sum();
            let rest = matrix[row][column] - known;
            matrix[row][column] = if row == column { rest.max(1e-12).sqrt() } else { rest / matrix[column][column] };
        }
        let known: f64 = (0..row).map(|k| matrix[row][k] * right[k]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|k| matrix[k][row] * right[k]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coefficients_of_simulated_answers_are_recovered() {
        let mut random = crate::Random::new(3, 0);
        let rows: Vec<[f32; 2]> = (0..20_000).map(|_| [random.normal(), 2.0 * random.normal()]).collect();
        let answers: Vec<bool> =
            rows.iter().map(|[a, b]| random.unit() < 1.0 / (1.0 + (-(0.5 + a - 2.0 * b)).exp())).collect();
        let fitted = fit(&rows, &answers);
        for (found, expected) in fitted.iter().zip([0.5, 1.0, -2.0]) {
            assert!((found - expected).abs() < 0.1, "{fitted:?}");
        }
    }

    #[test]
    fn separable_answers_give_finite_coefficients() {
        let rows: Vec<[f32; 2]> = (0..100_u8).map(|n| [f32::from(n) - 50.0, 1.0]).collect();
        let fitted = fit(&rows, &(0..100).map(|n| n >= 50).collect::<Vec<_>>());
        assert!(fitted.iter().all(|weight| weight.is_finite()) && fitted[1] > 0.1, "{fitted:?}");
    }
}
