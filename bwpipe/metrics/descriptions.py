"""What the figures of a score are."""

MOST_PSNR = 100.0
"""What the PSNR of a guess that equals the truth counts as, in dB; it would be infinite."""

FIGURES = {
    "rgb_mse": "mean squared error in RGB, 0..1; the mean over the pictures",
    "own_rgb_mse": "the same of the RGB that the network itself makes, in the size in which it sees the picture",
    "psnr": f"peak signal-to-noise ratio in RGB, in dB: the mean of each picture's; equal pictures count as {MOST_PSNR:.0f}",
    "ssim": "structural similarity in RGB (Wang et al. 2004: Gaussian window of 11 x 11, sigma 1.5, K1 0.01, K2 0.03; "
    "scikit-image); the mean over the pictures",
    "ciede2000": "colour difference CIEDE2000 of sRGB under D65 (scikit-image); the mean over pixels, then over pictures",
    "colourfulness": "Hasler and Suesstrunk 2003; the mean over the pictures",
    "colourfulness_truth": "the truth's",
    "colourfulness_difference": "guess less truth",
    "chroma_error": "root mean square of the distance in (Cb, Cr), in code values 0..255; the mean over the pictures",
    "chroma_ratio": "mean length of (Cb, Cr), as a share of the truth's, over all pictures",
    "chroma_correlation": "Pearson's, over all pixels of all pictures, Cb and Cr pooled, each picture averaged to 64 x 64",
    "frechet": "Frechet distance of the pooled features of EfficientNet-Lite0 as it was trained on ImageNet; "
    "not the FID of papers, and comparable only with itself, of as many pictures under the same protocol",
}
"""The figures by name."""

FILM_FIGURES = {
    "flicker": "mean change of chroma from frame to frame along the motion, over that of luma: both in code values, where the "
    "motion there and back agrees (Farneback 2003, short side 256), within shots; the budget `max_flicker` of `steady`",
    "chroma_change": "that change of chroma by itself, in code values: the mean over the frames",
    "cdc": "colour distribution consistency (Liu et al. 2021) on chroma: the mean Jensen-Shannon divergence, in nats, of the "
    "distributions of Cb and of Cr in frames that are 1, 2 and 4 apart, within shots",
}
"""Those of films, by name: the smaller, the steadier. Beside a source in colour each is told as a share of its, too."""
