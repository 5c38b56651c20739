"""Networks of the field as their authors write them, with fewer and narrower blocks: YOLO, RAFT, SegFormer."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_zoo.case import network


class _Conv(nn.Sequential):
    """Convolution, batch norm, SiLU."""

    def __init__(self, i: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(o), nn.SiLU() if act else nn.Identity())


class _Bottleneck(nn.Module):
    def __init__(self, width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = _Conv(width, width, 3), _Conv(width, width, 3), shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class _CrossStage(nn.Module):
    """CSP block: a half goes on, the other through bottlenecks; the halves are read off, or a width that is held."""

    def __init__(self, i: int, o: int, count: int, *, shortcut: bool = False, held: bool = False) -> None:
        super().__init__()
        self.c, self.held = o // 2, held
        self.cv1, self.cv2 = _Conv(i, 2 * self.c), _Conv((2 + count) * self.c, o)
        self.m = nn.ModuleList(_Bottleneck(self.c, shortcut=shortcut) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        parts = list(x.split((self.c, self.c), 1) if self.held else x.chunk(2, 1))
        parts.extend(m(parts[-1]) for m in self.m)
        return self.cv2(torch.cat(parts, 1))


class _PyramidPooling(nn.Module):
    """SPPF: one pool three times."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.m = _Conv(i, i // 2), _Conv(i // 2 * 4, o), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        parts.extend(self.m(parts[-1]) for _ in range(3))
        return self.cv2(torch.cat(parts, 1))


class _PartialAttention(nn.Module):
    """PSA: half of the channels attend in heads of held widths, with a depthwise convolution for the positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.c, self.heads = width // 2, heads
        self.head_dim, self.key_dim = self.c // heads, self.c // heads // 2
        self.cv1, self.cv2 = _Conv(width, 2 * self.c), _Conv(2 * self.c, width)
        self.qkv = _Conv(self.c, self.c + 2 * self.key_dim * heads, act=False)
        self.pe, self.proj = _Conv(self.c, self.c, 3, groups=self.c, act=False), _Conv(self.c, self.c, act=False)
        self.ffn = nn.Sequential(_Conv(self.c, 2 * self.c), _Conv(2 * self.c, self.c, act=False))

    def attention(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(x).view(b, self.heads, self.key_dim * 2 + self.head_dim, h * w)
        q, k, v = qkv.split([self.key_dim, self.key_dim, self.head_dim], dim=2)
        weights = ((q.transpose(-2, -1) @ k) * self.key_dim**-0.5).softmax(dim=-1)
        y = (v @ weights.transpose(-2, -1)).view(b, c, h, w) + self.pe(v.reshape(b, c, h, w))
        return self.proj(y)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).split((self.c, self.c), dim=1)
        b = b + self.attention(b)
        b = b + self.ffn(b)
        return self.cv2(torch.cat((a, b), 1))


class _Detect(nn.Module):
    """A head for each scale; boxes are means of distributions over distances, around anchors that are kept."""

    def __init__(self, classes: int, widths: Sequence[int], bins: int = 4) -> None:
        super().__init__()
        self.nc, self.reg_max, self.no = classes, bins, classes + 4 * bins
        self.shape: torch.Size | None = None
        self.anchors, self.strides = torch.empty(0), torch.empty(0)
        c2, c3 = max(8, widths[0] // 2), max(widths[0], classes)
        self.cv2 = nn.ModuleList(
            nn.Sequential(_Conv(w, c2, 3), _Conv(c2, c2, 3), nn.Conv2d(c2, 4 * bins, 1)) for w in widths
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(_Conv(w, w, 3, groups=w), _Conv(w, c3), _Conv(c3, c3, 3), nn.Conv2d(c3, classes, 1))
            for w in widths
        )
        self.dfl = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.dfl.weight.data[:] = torch.arange(bins, dtype=torch.float).view(1, bins, 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        out = [torch.cat((a(x), b(x)), 1) for a, b, x in zip(self.cv2, self.cv3, features, strict=True)]
        if self.training:
            return out
        shape = out[0].shape
        joined = torch.cat([x.view(shape[0], self.no, -1) for x in out], 2)
        if self.shape != shape:
            self.anchors, self.strides = (x.transpose(0, 1) for x in _anchors(out, 8))
            self.shape = shape
        box, cls = joined.split((self.reg_max * 4, self.nc), 1)
        b, _, places = box.shape
        sides = self.dfl(box.view(b, 4, self.reg_max, places).transpose(2, 1).softmax(1)).view(b, 4, places)
        low, high = sides.chunk(2, 1)
        first, last = self.anchors.unsqueeze(0) - low, self.anchors.unsqueeze(0) + high
        return torch.cat((torch.cat(((first + last) / 2, last - first), 1) * self.strides, cls.sigmoid()), 1)


def _anchors(features: list[Tensor], stride: int) -> tuple[Tensor, Tensor]:
    """Return the centres of all places, and the stride of each."""
    points, strides = [], []
    for number, x in enumerate(features):
        _, _, h, w = x.shape
        y, z = (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5 for n in (h, w))
        points.append(torch.stack(torch.meshgrid(z, y, indexing="xy"), -1).view(-1, 2))
        strides.append(torch.full((h * w, 1), stride * 2**number, dtype=x.dtype, device=x.device))
    return torch.cat(points), torch.cat(strides)


@network((1, 3, 64, 64), frozen=0.01)
class YOLO(nn.Module):
    """Version 8 with the attention of 10: backbone, a way up and down again, and a head at three scales.

    Of the attention queries and keys stay.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Conv(3, 8, 3, 2), _Conv(8, 16, 3, 2), _CrossStage(16, 16, 1, shortcut=True))
        self.p3 = nn.Sequential(_Conv(16, 16, 3, 2), _CrossStage(16, 16, 2, shortcut=True, held=True))
        self.p4 = nn.Sequential(_Conv(16, 24), _Conv(24, 24, 3, 2, groups=24), _CrossStage(24, 24, 2, shortcut=True))
        self.p5 = nn.Sequential(_Conv(24, 32, 3, 2), _CrossStage(32, 32, 1, shortcut=True), _PyramidPooling(32, 32))
        self.psa, self.up = _PartialAttention(32, 2), nn.Upsample(None, 2, "nearest")
        self.n4, self.n3 = _CrossStage(32 + 24, 24, 1), _CrossStage(24 + 16, 16, 1, held=True)
        self.d4, self.d5 = _Conv(16, 16, 3, 2), _Conv(24, 24, 3, 2)
        self.m4, self.m5 = _CrossStage(16 + 24, 24, 1), _CrossStage(24 + 32, 32, 1)
        self.detect = _Detect(3, (16, 24, 32))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.psa(self.p5(p4))
        n4 = self.n4(torch.cat((self.up(p5), p4), 1))
        n3 = self.n3(torch.cat((self.up(n4), p3), 1))
        m4 = self.m4(torch.cat((self.d4(n3), n4), 1))
        return self.detect([n3, m4, self.m5(torch.cat((self.d5(m4), p5), 1))])  # type: ignore[no-any-return]


class _Residual(nn.Module):
    def __init__(self, i: int, o: int, norm: type[nn.Module], stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(i, o, 3, stride, 1), nn.Conv2d(o, o, 3, padding=1)
        self.norm1, self.norm2 = norm(o), norm(o)
        self.downsample = None if stride == 1 else nn.Sequential(nn.Conv2d(i, o, 1, stride), norm(o))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu((x if self.downsample is None else self.downsample(x)) + y)


class _Encoder(nn.Module):
    """Features at a quarter of the resolution; of a pair of images both, in one batch."""

    def __init__(self, width: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 7, 2, 3), norm(8)
        self.layer1 = nn.Sequential(_Residual(8, 8, norm, 1), _Residual(8, 8, norm, 1))
        self.layer2 = nn.Sequential(_Residual(8, 12, norm, 2), _Residual(12, 12, norm, 1))
        self.conv2 = nn.Conv2d(12, width, 1)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        pair = isinstance(x, list)
        batch = x[0].shape[0] if pair else 0
        y = torch.cat(x, 0) if isinstance(x, list) else x
        y = self.conv2(self.layer2(self.layer1(F.relu(self.norm1(self.conv1(y))))))
        return torch.split(y, [batch, batch], 0) if pair else y


class _Correlation:
    """All pairs of places, pooled; looked up around where the flow leads."""

    def __init__(self, first: Tensor, second: Tensor, levels: int, radius: int) -> None:
        self.radius = radius
        b, c, h, w = first.shape
        volume = torch.matmul(first.view(b, c, h * w).transpose(1, 2), second.view(b, c, h * w))
        volume = volume.view(b, h, w, 1, h, w) / torch.sqrt(torch.tensor(c).float()).to(volume.dtype)
        self.pyramid = [volume.reshape(b * h * w, 1, h, w)]
        for _ in range(levels - 1):
            self.pyramid.append(F.avg_pool2d(self.pyramid[-1], 2, stride=2))

    def __call__(self, coordinates: Tensor) -> Tensor:
        r = self.radius
        coordinates = coordinates.permute(0, 2, 3, 1)
        b, h, w, _ = coordinates.shape
        out = []
        for level, volume in enumerate(self.pyramid):
            steps = torch.linspace(-r, r, 2 * r + 1, dtype=volume.dtype, device=volume.device)
            delta = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
            centre = coordinates.reshape(b * h * w, 1, 1, 2) / 2**level
            x, y = (centre + delta.view(1, 2 * r + 1, 2 * r + 1, 2)).split([1, 1], dim=-1)
            height, width = volume.shape[-2:]
            grid = torch.cat([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
            out.append(F.grid_sample(volume, grid, align_corners=True).view(b, h, w, -1))
        return torch.cat(out, dim=-1).permute(0, 3, 1, 2).contiguous()


class _Motion(nn.Module):
    def __init__(self, planes: int, width: int) -> None:
        super().__init__()
        self.convc1, self.convc2 = nn.Conv2d(planes, 12, 1), nn.Conv2d(12, 10, 3, padding=1)
        self.convf1, self.convf2 = nn.Conv2d(2, 8, 7, padding=3), nn.Conv2d(8, 6, 3, padding=1)
        self.conv = nn.Conv2d(16, width - 2, 3, padding=1)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        cor = F.relu(self.convc2(F.relu(self.convc1(correlation))))
        flo = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([cor, flo], dim=1))), flow], dim=1)


class _SeparableGRU(nn.Module):
    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        for name in ("z", "r", "q"):
            setattr(self, f"conv{name}1", nn.Conv2d(hidden + width, hidden, (1, 5), padding=(0, 2)))
            setattr(self, f"conv{name}2", nn.Conv2d(hidden + width, hidden, (5, 1), padding=(2, 0)))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        for z_of, r_of, q_of in ((self.convz1, self.convr1, self.convq1), (self.convz2, self.convr2, self.convq2)):
            hx = torch.cat([h, x], dim=1)
            z, r = torch.sigmoid(z_of(hx)), torch.sigmoid(r_of(hx))
            h = (1 - z) * h + z * torch.tanh(q_of(torch.cat([r * h, x], dim=1)))
        return h


@network((1, 3, 32, 32), (1, 3, 32, 32), frozen=0.14)
class RAFT(nn.Module):
    """Optical flow of two images: correlations of all pairs, a GRU in a loop, convex upsampling at each turn.

    The weights of the convex combinations stay: nine for each pixel, as the view of them is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden_dim, self.context_dim, self.levels, self.radius = 12, 10, 2, 2
        self.fnet = _Encoder(16, nn.InstanceNorm2d)
        self.cnet = _Encoder(self.hidden_dim + self.context_dim, nn.BatchNorm2d)
        self.encoder = _Motion(self.levels * (2 * self.radius + 1) ** 2, 14)
        self.gru = _SeparableGRU(self.hidden_dim, 14 + self.context_dim)
        self.flow_head = nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 3, padding=1))
        self.mask = nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16 * 9, 1))

    def upsampled(self, flow: Tensor, mask: Tensor) -> Tensor:
        """(B, 2, H, W) -> (B, 2, 4 H, 4 W), each a convex combination of nine."""
        b, _, h, w = flow.shape
        mask = torch.softmax(mask.view(b, 1, 9, 4, 4, h, w), dim=2)
        near = F.unfold(4 * flow, [3, 3], padding=1).view(b, 2, 9, 1, 1, h, w)
        up = torch.sum(mask * near, dim=2).permute(0, 1, 4, 2, 5, 3)
        return up.reshape(b, 2, 4 * h, 4 * w)

    def forward(self, first: Tensor, second: Tensor) -> list[Tensor]:
        correlation = _Correlation(*self.fnet([first, second]), self.levels, self.radius)
        net, inp = torch.split(self.cnet(first), [self.hidden_dim, self.context_dim], dim=1)
        net, inp = torch.tanh(net), torch.relu(inp)
        b, _, h, w = first.shape
        sides = [torch.arange(n // 4, device=first.device, dtype=first.dtype) for n in (h, w)]
        start = torch.stack(torch.meshgrid(*sides, indexing="ij")[::-1], dim=0)[None].repeat(b, 1, 1, 1)
        coordinates, flows = start.clone(), []
        for _ in range(3):
            coordinates = coordinates.detach()
            flow = coordinates - start
            net = self.gru(net, torch.cat([inp, self.encoder(flow, correlation(coordinates))], dim=1))
            coordinates = coordinates + self.flow_head(net)
            flows.append(self.upsampled(coordinates - start, 0.25 * self.mask(net)))
        return flows


class _Embedding(nn.Module):
    """Patches that overlap, as tokens."""

    def __init__(self, i: int, o: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(i, o, kernel, stride, kernel // 2), nn.LayerNorm(o)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        x = self.proj(x)
        _, _, h, w = x.shape
        return self.norm(x.flatten(2).transpose(1, 2)), h, w


class _EfficientAttention(nn.Module):
    """Keys and values of fewer places, made by a strided convolution."""

    def __init__(self, dim: int, num_heads: int, sr_ratio: int) -> None:
        super().__init__()
        self.num_heads, self.sr_ratio, self.scale = num_heads, sr_ratio, (dim // num_heads) ** -0.5
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        if sr_ratio > 1:
            self.sr, self.norm = nn.Conv2d(dim, dim, sr_ratio, sr_ratio), nn.LayerNorm(dim)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        b, n, c = x.shape
        q = self.q(x).reshape(b, n, self.num_heads, c // self.num_heads).permute(0, 2, 1, 3)
        if self.sr_ratio > 1:
            x = self.sr(x.permute(0, 2, 1).reshape(b, c, h, w)).reshape(b, c, -1).permute(0, 2, 1)
            x = self.norm(x)
        k, v = self.kv(x).reshape(b, -1, 2, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))  # type: ignore[no-any-return]


class _MixFFN(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        x = self.fc1(x)
        b, _, c = x.shape
        x = self.dwconv(x.transpose(1, 2).view(b, c, h, w)).flatten(2).transpose(1, 2)
        return self.fc2(F.gelu(x))  # type: ignore[no-any-return]


class _MixBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int, sr_ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = _EfficientAttention(dim, num_heads, sr_ratio), _MixFFN(dim, 2 * dim)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        x = x + self.attn(self.norm1(x), h, w)
        return x + self.mlp(self.norm2(x), h, w)


@network((1, 3, 64, 64), frozen=0.12)
class SegFormer(nn.Module):
    """Four stages of tokens and an all-MLP decoder. Where there are several heads they go whole; one alone stays."""

    def __init__(self) -> None:
        super().__init__()
        widths, heads, ratios = (8, 12, 16, 24), (1, 2, 2, 4), (4, 2, 2, 1)
        self.embeddings = nn.ModuleList(
            _Embedding(i, o, kernel, stride)
            for i, o, kernel, stride in zip((3, *widths), widths, (7, 3, 3, 3), (4, 2, 2, 2), strict=False)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(_MixBlock(*each) for _ in range(2)) for each in zip(widths, heads, ratios, strict=True)
        )
        self.norms = nn.ModuleList(map(nn.LayerNorm, widths))
        self.linears = nn.ModuleList(nn.Linear(width, 16) for width in widths)
        self.fuse, self.pred = _Conv(4 * 16, 16), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, seen = x.shape[0], []
        for embed, blocks, norm in zip(self.embeddings, self.stages, self.norms, strict=True):
            x, h, w = embed(x)
            for each in blocks:
                x = each(x, h, w)
            x = norm(x).reshape(b, h, w, -1).permute(0, 3, 1, 2).contiguous()
            seen.append(x)
        out = []
        for y, linear in zip(seen, self.linears, strict=True):
            _, _, h, w = y.shape
            y = linear(y.flatten(2).transpose(1, 2)).permute(0, 2, 1).reshape(b, -1, h, w)
            out.append(F.interpolate(y, size=seen[0].shape[2:], mode="bilinear", align_corners=False))
        return self.pred(self.fuse(torch.cat(out[::-1], dim=1)))  # type: ignore[no-any-return]
